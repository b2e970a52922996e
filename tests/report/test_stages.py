"""What stages leave is read whole and in order; what is broken is named by file and line."""

import json
from pathlib import Path

import pytest
from cases.evidence_samples import RETRIEVAL, write_run, write_stage

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.report.stages import lost_stages, read_stages


def test_stages_come_in_the_order_they_started_with_all_they_left(tmp_path: Path) -> None:
    index, measure, circuits = read_stages(write_run(tmp_path / "run"))
    assert [record.name for record in (index, measure, circuits)] == ["index", "measure", "circuits"]
    assert (index.verb, index.status, index.seconds) == ("index", "finished", 12.61)
    assert [picture.caption for picture in circuits.pictures] == ["Few heads are kept by every seed."]
    assert measure.config["questions"] == "packaged:fanoutqa"
    assert len(measure.evidence) == 6
    cited, _, bare = measure.samples
    assert (cited.correct, cited.gold, cited.more) == (True, "Danube; the Danube", "1 citation")
    assert cited.citations[0].source == "Vienna, Geography, wikipedia:Vienna"
    assert (bare.correct, bare.citations, bare.extra) == (None, [], [("passages used", "5")])


def test_known_answers_come_before_gold_and_other_fields_are_kept_as_details(tmp_path: Path) -> None:
    stage = write_stage(tmp_path / "measure", "measure", RETRIEVAL)
    row = {"question": "q", "answer": "a", "answers": ["x", "y"], "gold": ["doc-1"], "scores": {"token_f1": 0.33333}}
    (stage / "samples.jsonl").write_text(json.dumps(row | {"deep": {"list": [[1]]}, "empty": []}) + "\n")
    (sample,) = read_stages(stage)[0].samples
    assert sample.gold == "x; y"
    assert sample.extra == [("gold", "doc-1"), ("scores", "token f1 0.3333"), ("deep", '{"list": [[1]]}')]
    assert sample.more == "Details"


def test_a_run_of_one_verb_is_its_own_stage(tmp_path: Path) -> None:
    (record,) = read_stages(write_stage(tmp_path / "measure", "measure", RETRIEVAL))
    assert record.name == "measure"


def test_evidence_without_a_manifest_counts_and_hidden_folders_do_not(tmp_path: Path) -> None:
    for name in ("loose", ".loose.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evidence.jsonl").write_text(RETRIEVAL[0].to_json() + "\n")
    (record,) = read_stages(tmp_path)
    assert (record.name, record.verb, record.status, record.seconds) == ("loose", "", "no manifest", 0.0)


def test_a_missing_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"nowhere: no such run folder\. Give the folder"):
        read_stages(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataNotFound, match="expected a run folder, found a file"):
        read_stages(tmp_path / "file")


@pytest.mark.parametrize(
    ("file", "content", "place"),
    [
        ("evidence.jsonl", RETRIEVAL[0].to_json() + "\n{broken\n", r"evidence\.jsonl:2: "),
        ("samples.jsonl", '{"question": "q", "answer": "a"}\n\n{"question": "q"}\n', r"samples\.jsonl:3: "),
        ("samples.jsonl", '{"question": "q", "answer": "a", "citations": 3}\n', r"samples\.jsonl:1: "),
        ("config.yaml", "a: [", r"config\.yaml: not valid YAML"),
        ("figures/x.svg", "<svg", r"x\.svg: not a readable SVG"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, file: str, content: str, place: str) -> None:
    stage = write_stage(tmp_path / "run" / "measure", "measure", RETRIEVAL)
    (stage / file).parent.mkdir(exist_ok=True)
    (stage / file).write_text(content)
    with pytest.raises(MalformedRecord, match=place):
        read_stages(tmp_path / "run")


def test_stages_that_stopped_before_leaving_anything_are_still_known(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    record = {
        "index": {"verb": "index", "status": "done"},
        "align": {"verb": "align", "status": "started"},
        "report": {"verb": "report", "status": "started"},
    }
    (run / "recipe.json").write_text(json.dumps(record))
    assert lost_stages(run, read_stages(run)) == ["align"]
    (run / "recipe.json").write_text("[]")
    with pytest.raises(MalformedRecord, match=r"recipe\.json: not a recipe's record"):
        lost_stages(run, [])
