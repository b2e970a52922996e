"""The Heuristic Core in small: do subnetworks of one model generalise differently, and do they share heads?

Run: python benchmarks/subnetworks_toy.py --seed 0     one model seed, for each of 0 to 4; about 6 minutes of one core
     python benchmarks/subnetworks_toy.py --seed 0 --shared     the same with one gate sample a step for all examples
     python benchmarks/subnetworks_toy.py --preset     the published settings against ours, once; about 10 minutes
     python benchmarks/subnetworks_toy.py              what of it is not there yet, then all bars
     python benchmarks/subnetworks_toy.py --measured   the bars over those model seeds that are there
Each piece goes on where it was left: models, searches and finished pieces are kept in --folder.

A model seed: the toy language of inference, a checkpoint every 250 steps; the final one and the first whose mean
accuracy on hard pairs is 50 to 80 %; targets .35 and .5 with 6 search seeds each; every head ablated alone; effective
sizes at the earlier checkpoint from 4 targets of one search seed. AUC of hard against entailed pairs stands beside
accuracy, since pruning shifts the decision threshold. The bars were set before and are reported whichever way they
fall; (f) is process time of one thread where the bar speaks of two cores. What this cannot show: BERT on language.

Results of 28 November 2026 (--preset: of 24 November). (b), (c), (d), (f) hold on five seeds of five, (e) on four. (a)
is MISSED: it holds on seed 2 alone. On the others mean AUC spreads by 3.8 to 6.7 points where 10 are asked and one
kind's by 8.0 to 14.5 where 25 are, while accuracy on hard pairs spreads by up to 25 points: mostly a threshold that
moved. With one gate sample a step instead of one an example, as published, subnetworks are less faithful and lie
further apart, yet (a) is MISSED too: it holds on seeds 0 and 2 (mean AUC up to 16 points apart, one kind's up to 41),
on seed 4 mean AUC is 16 points apart where accuracy in domain is 7.3 (6 are allowed), and seeds 1 and 3 stay narrow (5
points). (e) is then missed as well, on two seeds; the others hold as before. Why two models of five have no
subnetworks that differ is not known. On seed 3 a search of 60 steps instead of 250 did not spread AUC either (4.9
points, ours 6.1). Training is not the same bit for bit on every machine: seeds 0 and 1 came out otherwise on 24
November. Our search needs 500 steps for a KL below that of the published 9300.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import BertForSequenceClassification

from glassworks.circuits.head_masks import gated
from glassworks.circuits.heuristic_core import core_recall, effective_size, heuristic_core
from glassworks.circuits.sentence_pairs import encode, read_cases
from glassworks.circuits.subnetwork_evaluation import Scores
from glassworks.circuits.subnetwork_probing import sweep_scores
from glassworks.circuits.subnetwork_search import Subnetwork, decide, search
from glassworks.circuits.subnetwork_settings import SearchConfig, preset
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.subnetworks import score_mask
from glassworks.circuits.toy_inference import KINDS, toy_evaluation_rows, toy_tokenizer, toy_training, train_toy
from glassworks.circuits.unit_means import Means, collect_means
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.files import write_json, write_text
from glassworks.foundations.parts import Anatomy

MODEL_SEEDS, SEARCH_SEEDS, TARGETS, SIZES = range(5), range(42, 48), (0.35, 0.5), (0.2, 0.35, 0.5, 0.65)
STEPS, EVERY, EXAMPLES, PARTLY = 2000, 250, 30_000, (0.5, 0.8)
OURS, PUBLISHED = (60, 125, 250, 500, 1000), (1000, 2000, 9300)
SAMPLES = {"ours": SearchConfig(), "shared": SearchConfig(per_example=False)}
"""Gates drawn for each example, as our default does, or once a step for all, as published."""

PREFIXES = {"ours": "seed-", "shared": "shared-"}
RESULTS = Path(__file__).parent / "results" / "subnetworks_toy.json"


class Toy:
    """Data, checkpoints and scores of one model seed, kept in a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder / f"model-{seed}", seed
        self.pairs, tokenizer = toy_training(EXAMPLES, seed), toy_tokenizer()
        self.data = encode(self.pairs, tokenizer, max_length=16)
        rows = self.folder / "evaluation.jsonl"
        write_text(rows, "".join(json.dumps(row) + "\n" for row in toy_evaluation_rows()))
        self.cases = read_cases(str(rows))
        self.encoded = {case.name: encode(case.examples, tokenizer, max_length=16) for case in self.cases}
        self._loaded: dict[int, tuple[Anatomy, Means]] = {}

    def train(self) -> dict[int, Scores]:
        """All checkpoints, trained once, and their scores."""
        if not (self.folder / f"step-{STEPS}").is_dir():
            train_toy(
                self.pairs, seed=self.seed, steps=STEPS, every=EVERY,
                save=lambda step, model: model.save_pretrained(self.folder / f"step-{step}"),
            )  # fmt: skip
        return {step: self.whole(step) for step in range(EVERY, STEPS + 1, EVERY)}

    def model(self, step: int) -> BertForSequenceClassification:
        """The classifier of a checkpoint."""
        return BertForSequenceClassification.from_pretrained(self.folder / f"step-{step}").eval()

    def whole(self, step: int) -> Scores:
        """Scores of a whole checkpoint."""
        with gated(anatomy(self.model(step), check=False), ablation="zero") as gates:
            return score_mask(gates, None, self.cases, self.encoded)

    def loaded(self, step: int) -> tuple[Anatomy, Means]:
        """The parts of a checkpoint, and its means over the training pairs."""
        if step not in self._loaded:
            parts = anatomy(self.model(step))
            batches = (self.data.batch(some) for some in self.data.buckets(256))
            self._loaded[step] = parts, collect_means(parts, batches)
        return self._loaded[step]

    def found(self, step: int, targets: Sequence[float], seeds: Sequence[int], config: SearchConfig, name: str = "ours"
              ) -> list[Subnetwork]:  # fmt: skip
        """Subnetworks of a checkpoint; a search that is half done goes on."""
        parts, means = self.loaded(step)
        folder = self.folder / f"states-{step}-{name}"
        return search(parts, self.data, targets, seeds, config=config, means=means, folder=folder)

    def score(self, step: int, masks: Sequence[UnitMask | None]) -> list[Scores]:
        """Scores of a checkpoint under masks; None = the whole model."""
        parts, means = self.loaded(step)
        with gated(parts, means) as gates:
            return [score_mask(gates, mask, self.cases, self.encoded) for mask in masks]

    def ablated(self, step: int) -> dict[str, float]:
        """Points of accuracy in domain that each head's ablation costs."""
        parts, means = self.loaded(step)
        full = UnitMask.full(parts.num_layers, parts.num_heads)
        inside = [case for case in self.cases if case.domain == "in"]
        heads = [name for name in full.names() if not name.endswith("mlp")]
        with gated(parts, means) as gates:
            swept = sweep_scores(gates, inside, self.encoded, full, heads)
        whole = swept.pop("").mean("in")
        return {name: 100 * (whole - scores.mean("in")) for name, scores in swept.items()}


def row(scores: Scores) -> dict[str, Any]:
    """One line of the table, in per cent."""
    hard = {kind: scores.cases[f"{kind}_hard"] for kind in KINDS}
    return {
        "in_domain": 100 * scores.mean("in"),
        "hard": 100 * scores.mean("out"),
        "hard_by_kind": {kind: 100 * case.accuracy.value for kind, case in hard.items()},
        "entailed": 100 * sum(scores.cases[f"{kind}_entailed"].accuracy.value for kind in KINDS) / len(KINDS),
        "auc": 100 * scores.mean_auc(),
        "auc_by_kind": {kind: 100 * case.auc.value for kind, case in hard.items()},
    }


def spread(values: Sequence[float]) -> float:
    """Highest less lowest."""
    return max(values) - min(values)


def spreads(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How far subnetworks of one target are apart, in points."""
    by_kind = {kind: spread([r["auc_by_kind"][kind] for r in rows]) for kind in KINDS}
    return {
        "in_domain_range": spread([r["in_domain"] for r in rows]),
        "hard_range": spread([r["hard"] for r in rows]),
        "auc_range": spread([r["auc"] for r in rows]),
        "widest_kind": max(by_kind, key=by_kind.__getitem__),
        "widest_kind_auc_range": max(by_kind.values()),
        "rows": rows,
    }


def at_checkpoint(toy: Toy, step: int, samples: str) -> dict[str, Any]:
    """Searches, their core and the ablations of one checkpoint."""
    found = toy.found(step, TARGETS, SEARCH_SEEDS, SAMPLES[samples], samples)
    rows = [row(scores) for scores in toy.score(step, [one.mask for one in found])]
    tables = {}
    for target in TARGETS:
        own = [(one.kl, row) for one, row in zip(found, rows, strict=True) if one.sparsity == target]
        tables[f"{target:g}"] = {"kl": sum(kl for kl, _ in own) / len(own)} | spreads([row for _, row in own])
    core = heuristic_core([one.mask.heads for one in found])
    drops = toy.ablated(step)
    inside, outside = (
        [drop for name, drop in drops.items() if (name in core.names()) is kind] for kind in (True, False)
    )
    whole = UnitMask.full(*core.heads.shape)
    without = whole - UnitMask(core.heads, torch.zeros_like(whole.mlps))
    removed, alone = toy.score(step, [without, UnitMask(core.heads, whole.mlps)])
    return {
        "step": step, "targets": tables, "core": core.names(), "chance": core.chance, "p_value": core.p_value,
        "ablation_core": sum(inside) / max(1, len(inside)), "ablation_other": sum(outside) / max(1, len(outside)),
        "without_core": row(removed), "core_alone": row(alone),
    }  # fmt: skip


def sizes_at(toy: Toy, step: int, samples: str) -> dict[str, Any]:
    """Effective sizes of one checkpoint by one search seed."""
    found = toy.found(step, SIZES, SEARCH_SEEDS[:1], SAMPLES[samples], samples)
    full, *scored = toy.score(step, [None, *(one.mask for one in found)])
    sizes = {}
    for domain in ("in", "out"):
        sweep = {100 * one.sparsity: scores.mean(domain) for one, scores in zip(found, scored, strict=True)}
        sizes[domain] = effective_size(full.mean(domain), sweep)._asdict() | {"sweep": sweep}
    return sizes


def model_seed(folder: Path, seed: int, samples: str) -> dict[str, Any]:
    """Everything about one model seed. samples: a name of SAMPLES."""
    clock, toy = time.process_time(), Toy(folder, seed)
    trained = toy.train()
    early = [step for step, scores in trained.items() if step < STEPS and PARTLY[0] <= scores.mean("out") <= PARTLY[1]]
    final = at_checkpoint(toy, STEPS, samples)
    found: dict[str, Any] = {
        "seed": seed, "training": {step: row(scores) for step, scores in trained.items()}, "final": final
    }  # fmt: skip
    if early:
        found["earlier"] = at_checkpoint(toy, early[0], samples)
        shape = (3, 8)
        cores = [UnitMask.from_names(found[when]["core"], *shape).heads for when in ("earlier", "final")]
        found["core_recall"] = core_recall(*cores)
        found["effective_size"] = sizes_at(toy, early[0], samples)
    return found | {"cpu_seconds": round(time.process_time() - clock, 1)}


def settings_compared(folder: Path) -> dict[str, Any]:
    """KL of exactly half the units by steps of search, ours against the published settings, schedules in proportion.

    Both are decided by the global rule, so that both have 14 of 27 units; one search seed, final model of seed 0.
    """
    clock, toy = time.process_time(), Toy(folder, 0)
    toy.train()
    curves: dict[str, dict[int, dict[str, float]]] = {"ours": {}, "published": {}}
    for name, steps in [*(("ours", n) for n in OURS), *(("published", n) for n in PUBLISHED)]:
        config = SearchConfig() if name == "ours" else preset("heuristic-core-2024", 0.5)
        share = steps / config.steps
        config = replace(config, steps=steps, rule="global", lr_warmup_steps=round(config.lr_warmup_steps * share))
        (one,) = toy.found(STEPS, [0.5], [42], config, f"{name}-{steps}")
        assert one.mask == decide(one.alpha, 0.5, "global")
        (scores,) = toy.score(STEPS, [one.mask])
        curves[name][steps] = {"kl": one.kl, "kl_soft": one.kl_soft} | {k: row(scores)[k] for k in ("in_domain", "auc")}
        print(name, steps, {k: round(v, 3) for k, v in curves[name][steps].items()}, flush=True)
    goal = curves["published"][PUBLISHED[-1]]["kl"]
    enough = [steps for steps, at in curves["ours"].items() if at["kl"] <= goal]
    return {
        "curves": curves, "kl_of_published": goal, "our_steps": enough[0] if enough else None,
        "times_fewer": PUBLISHED[-1] / enough[0] if enough else None,
        "cpu_seconds": round(time.process_time() - clock, 1),
    }  # fmt: skip


def apart(table: dict[str, Any]) -> bool:
    """Whether subnetworks that are alike in domain differ out of it."""
    wide = table["auc_range"] >= 10 or table["widest_kind_auc_range"] >= 25
    return bool(table["in_domain_range"] <= 6 and wide)


def bars(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each bar: on how many model seeds it must hold, and on which it does."""

    def differs(one: dict[str, Any]) -> bool:
        return any(
            apart(table) for when in ("final", "earlier") if when in one for table in one[when]["targets"].values()
        )

    def larger(one: dict[str, Any]) -> bool:
        sizes = one.get("effective_size")
        return sizes is not None and sizes["out"]["official"] >= sizes["in"]["official"] + 10

    checks = {
        "a: subnetworks alike in domain differ out of it": (3, differs),
        "b: the core has 3 heads and 20 times chance": (
            4, lambda one: len(one["final"]["core"]) >= max(3, 20 * one["final"]["chance"])
        ),
        "c: ablating a core head costs 5 times another's": (
            4, lambda one: one["final"]["ablation_core"] >= 5 * one["final"]["ablation_other"]
        ),
        "d: half the final core is in the earlier one": (3, lambda one: one.get("core_recall", 0) >= 0.5),
        "e: effective size out of domain is 10 points larger": (3, larger),
        "f: less than 10 minutes": (len(found), lambda one: one["cpu_seconds"] < 600),
    }  # fmt: skip
    held = {name: ([one["seed"] for one in found if check(one)], needed) for name, (needed, check) in checks.items()}
    return {name: {"needed": needed, "of": len(found), "on": on} for name, (on, needed) in held.items()}


def machine() -> str:
    """Where this runs."""
    return f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}"


def piece(folder: Path, name: str, compute: Any) -> Any:
    """A finished piece of the experiment, from its file or computed now."""
    file = folder / f"{name}.json"
    if not file.exists():
        write_json(file, compute())
    return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    """A piece, or all and the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, choices=MODEL_SEEDS)
    parser.add_argument("--preset", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--measured", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-subnetworks-toy"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = "shared" if options.shared else "ours"
    if options.seed is not None:
        print(json.dumps(seed_piece(options.folder, options.seed, samples)))
    elif options.preset:
        print(json.dumps(piece(options.folder, "preset", lambda: settings_compared(options.folder))))
    else:
        held, found = {}, {}
        for name, prefix in PREFIXES.items():
            there = [s for s in MODEL_SEEDS if not options.measured or (options.folder / f"{prefix}{s}.json").exists()]
            found[name] = [seed_piece(options.folder, seed, name) for seed in there]
            held[name] = bars(found[name])
            print(f"Gate samples: {name}")
            for bar in map(told, held[name], held[name].values()):
                print(f"  {bar}")
        compared = piece(options.folder, "preset", lambda: settings_compared(options.folder))
        print(f"equal KL in {compared['times_fewer']} times fewer steps than published, at least 3")
        date = datetime.now(UTC).date().isoformat()
        about = {"date": date, "machine": machine(), "bars": held, "preset": compared, "seeds": found}
        write_json(RESULTS, rounded(about))


def rounded(value: Any) -> Any:
    """Every number to six significant digits, so that the results file is no longer than what was measured."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def seed_piece(folder: Path, seed: int, samples: str) -> Any:
    """`model_seed`, from its file or computed now."""
    return piece(folder, f"{PREFIXES[samples]}{seed}", lambda: model_seed(folder, seed, samples))


def told(name: str, bar: dict[str, Any]) -> str:
    """A bar as one line."""
    left = len(MODEL_SEEDS) - bar["of"]
    missed = "MISSED" if len(bar["on"]) + left < bar["needed"] else "open, seeds are missing"
    kept = "holds" if len(bar["on"]) >= bar["needed"] else missed
    return f"{name}: on {len(bar['on'])} of {bar['of']} seeds, at least {bar['needed']}: {kept}"


if __name__ == "__main__":
    main()
