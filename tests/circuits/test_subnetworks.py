"""The verbs on a small trained toy: search, evaluate, core, ablate, effective size, attention, export, plot."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, T5Config, T5ForSequenceClassification

from glassworks.circuits.subnetwork_probing import (
    ablate_subnetworks,
    attention_of_core,
    effective_sizes,
)
from glassworks.circuits.subnetwork_reports import core_of_subnetworks, export_subnetwork
from glassworks.circuits.subnetwork_runs import STATES, read_accuracies, subnetworks_of
from glassworks.circuits.subnetwork_settings import SearchConfig
from glassworks.circuits.subnetworks import evaluate_subnetworks, search_subnetworks, sparsities_of, toy_subnetworks
from glassworks.circuits.toy_inference import toy_tokenizer
from glassworks.errors import DataNotFound, OptionError, RunMismatch
from glassworks.foundations.evidence import read_evidence
from glassworks.foundations.runs import is_intact
from glassworks.report.figures import find_figures

QUICK = SearchConfig(steps=12, batch_size=16, lr_warmup_steps=2, alpha_lr=0.5)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_subnetworks(str(tmp_path_factory.mktemp("toy") / "run"), steps=20, examples=300, every=10).path


@pytest.fixture(scope="module")
def searched(toy: Path) -> Path:
    return search_subnetworks(
        str(toy / "checkpoints/step-20"), str(toy / "train.jsonl"), str(toy / "evaluation.jsonl"),
        str(toy.parent / "search"), sparsity="0.3,0.5", seeds=2, settings=QUICK, limit=20,
    ).path  # fmt: skip


def model(toy: Path) -> str:
    return str(toy / "checkpoints/step-20")


def values(folder: Path) -> dict[str, float]:
    return {item.metric: item.value for item in read_evidence(folder)}


def test_search_leaves_masks_metrics_figures_and_evidence(searched: Path) -> None:
    found = subnetworks_of(str(searched))
    assert [(one.seed, one.sparsity, one.mask.size) for one, _ in found] == [
        (42, 0.3, 19), (43, 0.3, 19), (42, 0.5, 14), (43, 0.5, 14),
    ]  # fmt: skip
    table = read_accuracies(searched / "metrics.json")
    assert set(table) == {"original", "42", "43"}
    assert set(table["42"]) == {"30", "50"}
    assert {"in_domain_accuracy", "out_of_domain_auc", "out_of_domain_auc_range", "degenerate_cases"} <= values(
        searched
    ).keys()
    assert is_intact(searched)
    assert not (searched / "states").exists()
    assert [figure.stem for figure in find_figures(searched)] == [
        "accuracy-30", "accuracy-50", "accuracy-against-sparsity", "auc-30", "auc-50",
    ]  # fmt: skip


def test_evaluate_agrees_and_forces_units(toy: Path, searched: Path) -> None:
    again = evaluate_subnetworks(
        model(toy), str(searched), str(toy / "evaluation.jsonl"), str(toy.parent / "again"), limit=20
    )
    assert json.loads((again.path / "metrics.json").read_text()) == json.loads((searched / "metrics.json").read_text())
    with pytest.raises(OptionError, match="no unit 'a3.h99'.*a0.h0 to a2.h7"):
        evaluate_subnetworks(model(toy), str(searched), "hans:2", str(toy.parent / "no"), force_include="a3.h99")
    assert not (toy.parent / "no").exists()


def test_core_and_pictures(searched: Path, tmp_path: Path) -> None:
    run = core_of_subnetworks(str(searched), str(tmp_path / "core"), draws=200)
    about = json.loads((run.path / "core.json").read_text())
    expected = torch.stack([one.mask.heads for one, _ in subnetworks_of(str(searched))]).all(0)
    assert len(about["core"]) == int(expected.sum()) == values(run.path)["core_heads"]
    assert sum(map(sum, about["joint_frequency"]["heads"])) == 24
    names = tmp_path / "names.txt"
    names.write_text("a0.h0 a0.mlp a1.h1\na1.h1 a0.h1\n")
    run = core_of_subnetworks(str(names), str(tmp_path / "core2"), shape="2x2")
    assert json.loads((run.path / "core.json").read_text())["core"] == ["a1.h1"]
    with pytest.raises(OptionError, match="--shape 12x12"):
        core_of_subnetworks(str(names), str(tmp_path / "core3"))


def test_ablations_attention_and_sizes(toy: Path, searched: Path, tmp_path: Path) -> None:
    evaluation = str(toy / "evaluation.jsonl")
    run = ablate_subnetworks(model(toy), str(searched), evaluation, str(tmp_path / "ablate"), limit=20)
    table = json.loads((run.path / "ablation.json").read_text())["units"]
    assert len(table) == 24
    assert "dependence_on_core" in values(run.path)
    run = attention_of_core(model(toy), str(searched), evaluation, str(tmp_path / "attention"), pairs=8)
    assert {"attention_overlap", "attention_counterfactual"} <= values(run.path).keys()
    run = effective_sizes(
        str(toy / "checkpoints"), str(toy / "train.jsonl"), evaluation, str(tmp_path / "sizes"), sparsity="0.3,0.6",
        settings=QUICK, limit=20,
    )  # fmt: skip
    about = json.loads((run.path / "effective-size.json").read_text())
    assert set(about["sizes"]["in domain"]) == {"10", "20"}
    assert about["core_recall"]["20"] == 1.0
    assert not (run.path / STATES).exists()


def test_sizes_of_an_encoder_decoder(toy: Path, tmp_path: Path) -> None:
    tokenizer = toy_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=24, num_layers=1, num_decoder_layers=1, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=tokenizer.sep_token_id, num_labels=2,
    )  # fmt: skip
    for step in (5, 10):
        T5ForSequenceClassification(config).save_pretrained(tmp_path / f"all/step-{step}")
        tokenizer.save_pretrained(tmp_path / f"all/step-{step}")
    run = effective_sizes(
        str(tmp_path / "all"), str(toy / "train.jsonl"), str(toy / "evaluation.jsonl"), str(tmp_path / "sizes"),
        sparsity="0.5", settings=QUICK, limit=20,
    )  # fmt: skip
    assert set(json.loads((run.path / "effective-size.json").read_text())["sizes"]["in domain"]) == {"5", "10"}


def test_export_loads(toy: Path, searched: Path, tmp_path: Path) -> None:
    run = export_subnetwork(model(toy), str(searched), "43-0.5", str(tmp_path / "export"))
    AutoModelForSequenceClassification.from_pretrained(run.path / "model")
    with pytest.raises(OptionError, match="there is no '44-0.5'.*42-0.3"):
        export_subnetwork(model(toy), str(searched), "44-0.5", str(tmp_path / "x"))


def test_bad_input_is_refused_before_any_work(toy: Path, searched: Path, tmp_path: Path) -> None:
    assert sparsities_of("0.5,0.7") == [0.5, 0.7]
    with pytest.raises(OptionError, match="no list of numbers"):
        sparsities_of("half")
    out = str(tmp_path / "out")
    with pytest.raises(OptionError, match="exclude each other"):
        search_subnetworks("m", "d", "e", out, preset="heuristic-core-2024", settings=QUICK)
    with pytest.raises(OptionError, match="expected at least 1"):
        search_subnetworks("m", "d", "e", out, seeds=0)
    with pytest.raises(OptionError, match="were found in weights"):
        ablate_subnetworks(
            str(toy / "checkpoints/step-10"), str(searched), str(toy / "evaluation.jsonl"), str(tmp_path / "a"), limit=5
        )
    with pytest.raises(DataNotFound, match="holds no subnetworks"):
        export_subnetwork(model(toy), str(tmp_path), out=out)
    with pytest.raises(OptionError, match="limit: expected at least 1, received 0"):
        search_subnetworks(model(toy), str(toy / "train.jsonl"), str(toy / "evaluation.jsonl"), out, limit=0)
    with pytest.raises(OptionError, match="heads: no unit is named"):
        ablate_subnetworks(model(toy), str(searched), str(toy / "evaluation.jsonl"), out, heads="")
    with pytest.raises(OptionError, match="pairs: expected at least 1"):
        attention_of_core(model(toy), str(searched), str(toy / "evaluation.jsonl"), out, pairs=0)
    with pytest.raises(OptionError, match="every: expected at least 1"):
        toy_subnetworks(out, every=0)
    with pytest.raises(OptionError, match=r"^settings\.alpha_lr: expected at least 0, received -1"):
        SearchConfig(alpha_lr=-1)
    with pytest.raises(OptionError, match=r"sparsity: 1\.5 is no share"):
        search_subnetworks(model(toy), str(toy / "train.jsonl"), str(toy / "evaluation.jsonl"), out, sparsity="1.5")
    assert not any(tmp_path.iterdir())


def test_a_search_that_was_killed_goes_on_and_a_folder_of_another_run_is_refused_first(
    toy: Path, searched: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunMismatch, match="has model = "):
        search_subnetworks(
            "no-such-model", str(toy / "train.jsonl"), str(toy / "evaluation.jsonl"), str(searched),
            sparsity="0.3,0.5", seeds=3, settings=QUICK, limit=20,
        )  # fmt: skip
    killed = tmp_path / "killed"
    shutil.copytree(searched, killed)
    for folder in ("subnetworks", "figures"):
        shutil.rmtree(killed / folder)
    manifest = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps(manifest | {"status": "running"}))
    again = search_subnetworks(
        model(toy), str(toy / "train.jsonl"), str(toy / "evaluation.jsonl"), str(killed), sparsity="0.3,0.5", seeds=2,
        settings=QUICK, limit=20,
    )  # fmt: skip
    assert is_intact(again.path)
    assert (killed / "metrics.json").read_bytes() == (searched / "metrics.json").read_bytes()
