"""A run folder with invented figures, as three stages of a recipe would leave it: for tests of what reads evidence.

The figures are made up and say so in no system's name; texts hold the characters that break careless pages.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from glassworks.foundations.evidence import Evidence
from glassworks.report.figures import Point, Series, forest, heat_map, recall_at_k, save_figure

INJECTION = "<script>alert('owned')</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
MACHINE = {"system": "Linux-6.1-x86_64", "cores": 2, "python": "3.11.2", "torch": "2.13.0", "transformers": "5.24.0"}
MODEL_SHA, DATA_SHA = "3f9a1c20b7d4e586", "b81c02f4aa917de0"

RETRIEVAL = (
    Evidence(
        "retrieval", "The right passage is among the first five for four questions in five.", "recall@5", 0.8083,
        better="higher", interval=(0.729, 0.869), n=120, baseline=0.658, setting="hybrid retriever, baseline BM25",
        seed=0, model_sha=MODEL_SHA, data_sha=DATA_SHA,
    ),
    Evidence(
        "retrieval", "Answers with retrieved passages contain the expected words more often than without.",
        "substring accuracy", 0.4917, better="higher", interval=(0.404, 0.580), n=120, baseline=0.2,
        setting="5 passages, greedy decoding", model_sha=MODEL_SHA, data_sha=DATA_SHA,
    ),
    Evidence(
        "retrieval", "Dense retrieval alone finds the passage about as often as BM25.", "recall@5", 0.7,
        better="higher", interval=(0.613, 0.775), n=120, baseline=0.658, data_sha=DATA_SHA,
    ),
    Evidence(
        "retrieval", "A question takes longer to answer with five passages in the prompt.", "latency", 1840.0,
        unit="ms", better="lower", interval=(1710.0, 1985.0), n=120, baseline=640.0, setting="median, 2 threads",
    ),
    Evidence("retrieval", "The index needs this much room on disk.", "index size", 48.2, unit="MiB", better="lower"),
)  # fmt: skip
INJECTED = Evidence("retrieval", INJECTION, INJECTION, 0.5, unit="x", setting=INJECTION, command=INJECTION)
CIRCUITS = (
    Evidence(
        "circuits", "The circuit's answers agree with the whole model's on held-out prompts.", "agreement", 0.936,
        interval=(0.907, 0.957), n=400, baseline=0.51, better="higher", setting="98 % of the edges removed",
    ),
    Evidence(
        "circuits", "How far the circuit's next-token distribution lies from the model's.", "KL divergence", 0.124,
        unit="nats", better="lower", interval=(0.109, 0.141), n=400,
    ),
    Evidence(
        "circuits", "Edges that stay.", "edges kept", 651.0, unit="of 32 491 edges", setting="exact count",
    ),
)  # fmt: skip
SAMPLES = (
    {
        "question": "Which river flows through the capital of Austria?",
        "answer": "The Danube flows through Vienna, the capital of Austria [1].",
        "gold": ["Danube", "the Danube"],
        "correct": True,
        "citations": [
            {
                "number": 1, "title": "Vienna", "section": "Geography", "uri": "wikipedia:Vienna", "score": 0.91,
                "quote": "Vienna is located in northeastern Austria, at the easternmost extension of the Alps, "
                "in the Vienna Basin, on the river Danube.",
            }
        ],
    },
    {"question": INJECTION, "answer": INJECTION, "gold": INJECTION, "correct": False, "citations": [INJECTION]},
    {"question": "Who designed the bridge?", "answer": "The passages do not say.", "passages used": 5},
)  # fmt: skip


def write_stage(
    folder: Path, verb: str, evidence: tuple[Evidence, ...] = (), *, minute: int = 0, status: str = "finished",
    seconds: float = 41.3, **options: object,
) -> Path:  # fmt: skip
    """A stage's folder with config.yaml, run.json and evidence.jsonl, stamped with a fixed time."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**options, "out": str(folder)}, sort_keys=False))
    manifest = {
        "verb": verb, "status": status, "started": f"2026-03-14T09:{minute:02d}:00+00:00",
        "finished": f"2026-03-14T09:{minute:02d}:58+00:00" if status == "finished" else None,
        "seconds": seconds, "version": "0.1.0", "machine": MACHINE, "outputs": {},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(manifest))
    if evidence:
        (folder / "evidence.jsonl").write_text("".join(item.to_json() + "\n" for item in evidence))
    return folder


def write_run(run: Path, *, injected: bool = True) -> Path:
    """A recipe's folder: index, measure (claims, figures, answers), and circuits (claims, heat map)."""
    write_stage(run / "index", "index", minute=1, seconds=12.61, docs="packaged:wikipedia-summaries", chunk_words=256)
    measured = RETRIEVAL + ((INJECTED,) if injected else ())
    measure = write_stage(
        run / "measure", "measure", measured, minute=3, seconds=43.8, store="index/datastore",
        questions="packaged:fanoutqa", model="packaged:smollm2", k=5,
    )  # fmt: skip
    samples = SAMPLES if injected else (SAMPLES[0], SAMPLES[2])
    (measure / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    ks = (1, 2, 5, 10, 20)
    lines = (
        Series(
            "hybrid", ks, (0.52, 0.64, 0.81, 0.88, 0.93), (0.43, 0.55, 0.73, 0.81, 0.87), (0.61, 0.72, 0.87, 0.93, 0.97)
        ),
        Series("BM25", ks, (0.42, 0.53, 0.66, 0.75, 0.83)),
    )  # fmt: skip
    save_figure(
        recall_at_k(lines), measure / "figures" / "recall.svg", caption="Words and meaning together find more.",
        alt="Recall at k from 1 to 20: the hybrid retriever rises from 0.52 to 0.93, BM25 from 0.42 to 0.83.",
    )  # fmt: skip
    points = (Point("with passages", 0.49, 0.404, 0.58, 120), Point("without", 0.2, 0.138, 0.28, 120))
    save_figure(
        forest(points, x_label="substring accuracy, share of questions"), measure / "figures" / "accuracy.svg",
        caption="Passages in the prompt more than double the share of answers that hold the expected words.",
        alt="Accuracy 0.49 with passages, 0.20 without; the intervals do not overlap.",
    )  # fmt: skip
    circuits = write_stage(
        run / "circuits", "circuits find", CIRCUITS, minute=5, seconds=39.0, model="packaged:smollm2", task="ioi"
    )
    grid = [[((7 * row + 3 * column) % 10) / 10 for column in range(9)] for row in range(12)]
    save_figure(
        heat_map(grid, row_label="layer", column_label="head", unit="share of 10 seeds that keep the head"),
        circuits / "figures" / "heads.svg", caption="Few heads are kept by every seed.",
        alt="Twelve layers by nine heads; shares between 0 and 0.9.",
    )  # fmt: skip
    return run
