"""The verb `certify`: figures of the scaled-down experiment, its bars, the collapse at beta <= k', files, refusals."""

import json
from pathlib import Path

import pytest
from cases.capitals import write_documents, write_questions

from glassworks.errors import DataNotFound, OptionError
from glassworks.foundations.evidence import read_evidence
from glassworks.retrieval.index import index
from glassworks.robustness.evaluate import certify
from glassworks.robustness.method import Defence
from glassworks.robustness.study import Study
from glassworks.robustness.trials import Attacks


def figures(path: Path) -> dict[str, float]:
    return {item.metric: item.value for item in read_evidence(path)}


@pytest.mark.parametrize(("method", "count"), [("keyword", 60), ("decoding", 12)])
def test_bars_of_the_experiment(tmp_path: Path, method: str, count: int) -> None:
    run = certify(
        f"synthetic:{count}", model="scripted", out=str(tmp_path / "run"), robust=method,  # type: ignore[arg-type]
        study=Study(max_corruption=3 if method == "keyword" else 1),
    )  # fmt: skip
    found = figures(run.path)
    baselines = {item.metric: item.baseline for item in run.evidence}
    for attack in ("pia", "poison"):
        assert baselines[f"attack_success_{attack}"] >= 0.7  # type: ignore[operator]
        assert found[f"attack_success_{attack}"] <= 0.1
        assert found["certified_accuracy@1"] <= found[f"robust_accuracy_{attack}"]
    assert found["clean_accuracy"] >= baselines["clean_accuracy"] - 0.12  # type: ignore[operator]
    assert found["certificate_violations"] == 0
    assert found["plain_accuracy"] == baselines["clean_accuracy"]
    assert found["flipped_poison"] <= 0.1 < baselines["flipped_poison"]  # type: ignore[operator]
    if method == "keyword":
        assert found["certified_accuracy@1"] >= found["certified_accuracy@2"] > 0
        assert found["certified_accuracy@3"] == 0  # beta = 3 hostile passages write what they like
    assert (run.path / "figures" / "certified.svg").exists()
    rows = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    assert rows[0]["plain answer under attack"] != rows[0]["plain answer"]


def test_a_poisoned_document_in_a_live_corpus(tmp_path: Path) -> None:
    store = str(index(str(write_documents(tmp_path / "docs")), str(tmp_path / "index")).path)
    run = certify(
        str(write_questions(tmp_path / "q.jsonl")), store, "scripted", str(tmp_path / "run"),
        attacks=Attacks("poisonedrag", delivery="corpus"), defence=Defence(k=3, beta=1),
        study=Study(5, max_corruption=1),
    )  # fmt: skip
    found = figures(run.path)
    assert found["clean_accuracy"] == 1.0
    assert found["certified_accuracy@1"] == 0.0  # one passage tells the truth, and one lie weighs as much
    assert found["plain_attack_success_poisonedrag"] > 0
    assert not (run.path / "poisoned").exists()
    again = certify(
        str(tmp_path / "q.jsonl"), store, "scripted", str(tmp_path / "run"),
        attacks=Attacks("poisonedrag", delivery="corpus"), defence=Defence(k=3, beta=1),
        study=Study(5, max_corruption=1),
    )  # fmt: skip
    assert figures(again.path) == found


def test_made_up_facts_and_their_poison_among_documents_of_a_store(tmp_path: Path) -> None:
    store = str(index(str(write_documents(tmp_path / "docs")), str(tmp_path / "index"), "hashing:64").path)
    run = certify(
        None, store, "scripted", str(tmp_path / "run"), attacks=Attacks("poisonedrag", delivery="corpus"),
        study=Study(6, redundancy=4, max_corruption=1), retriever="hybrid", encoder="hashing:64",
    )  # fmt: skip
    found = {item.metric: item for item in run.evidence}
    assert found["redundant_questions"].n == 24
    assert found["plain_attack_success_poisonedrag"].value > 0.5 > found["attack_success_poisonedrag"].value
    assert found["certified_accuracy@1"].value > 0.5
    assert found["certificate_violations"].value == 0
    assert "hybrid" in found["clean_accuracy"].setting


def test_without_attacks_nothing_is_said_about_broken_certificates(tmp_path: Path) -> None:
    run = certify("synthetic:4", model="scripted", out=str(tmp_path / "run"), attacks=Attacks(""))
    assert {"clean_accuracy", "certified_accuracy@1"} <= figures(run.path).keys()
    assert "certificate_violations" not in figures(run.path)


def test_a_method_without_certificate_is_measured_without_one(tmp_path: Path) -> None:
    run = certify("synthetic:10", model="scripted", out=str(tmp_path / "run"), robust="independent-set")
    assert not [metric for metric in figures(run.path) if metric.startswith("certified")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"questions": "synthetic:x"}, "synthetic:N"),
        ({"questions": "q.jsonl"}, "store"),
        ({"attacks": Attacks("piracy")}, "attack"),
        ({"attacks": Attacks(count=0)}, "count"),
        ({"study": Study(max_corruption=10)}, "max_corruption"),
        ({"study": Study(0)}, "limit"),
        ({"retriever": "dense"}, "retriever"),
        ({"robust": "decoding", "model": "http://h#m"}, "keyword"),
    ],
)
def test_refusals_leave_nothing_behind(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        certify(**({"questions": "synthetic:20", "model": "nobody/nothing", "out": str(tmp_path / "run")} | options))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="absent"):
        certify(str(tmp_path / "absent.json"), model="scripted", out=str(tmp_path / "run"))
