"""The verb `report`: what it finds, what it says is missing, that the same run gives the same bytes."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from cases.evidence_samples import CIRCUITS, RETRIEVAL, SAMPLES, write_run, write_stage
from selectolax.lexbor import LexborHTMLParser

from glassworks.errors import DataError, DataNotFound, MalformedRecord
from glassworks.foundations.runs import Run
from glassworks.report.dossier import SAMPLES_SHOWN, write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("made") / "quickstart")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run folder of the test's own; drawing its figures once is enough."""
    return Path(shutil.copytree(made, tmp_path / "quickstart"))


def page_of(run: Path, **options: str) -> LexborHTMLParser:
    return LexborHTMLParser(Path(write_report(str(run), **options).path).read_text(encoding="utf-8"))


def words(tree: LexborHTMLParser, selector: str) -> list[str]:
    return [" ".join(node.text(separator=" ").split()) for node in tree.css(selector)]


def test_the_result_counts_what_the_page_holds(run: Path) -> None:
    result = write_report(str(run))
    assert (result.claims, result.figures, result.samples, result.unfinished) == (9, 3, 3, ())
    assert Path(result.path) == run / "dossier.html"
    assert result.summary() == f"9 claims, 3 figures, 3 sample answers\nDossier: {result.path}"
    tree = LexborHTMLParser(Path(result.path).read_text(encoding="utf-8"))
    assert (len(tree.css(".claims tbody tr")), len(tree.css("figure")), len(tree.css(".samples > li"))) == (9, 3, 3)


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    first = Path(write_report(str(run)).path).read_bytes()
    assert Path(write_report(str(run)).path).read_bytes() == first  # the page itself is no part of the run
    assert Path(write_report(str(run), out=str(tmp_path / "page")).path).read_bytes() == first


@pytest.mark.parametrize(("out", "path"), [("pages", "pages/dossier.html"), ("pages/mine.html", "pages/mine.html")])
def test_out_is_a_page_or_a_folder_for_it(run: Path, tmp_path: Path, out: str, path: str) -> None:
    result = write_report(str(run), out=str(tmp_path / out))
    assert Path(result.path) == tmp_path / path
    assert Path(result.path).is_file()


def test_the_header_names_what_was_examined_once_with_its_fingerprint(run: Path) -> None:
    tree = page_of(run, title="Retrieval & circuits")
    assert words(tree, "h1") == ["Retrieval & circuits"]
    assert words(tree, ".facts > div") == [
        "Model packaged:smollm2 3f9a1c20b7d4e586",
        "Documents packaged:wikipedia-summaries",
        "Questions packaged:fanoutqa b81c02f4aa917de0",
        "Measured 14 March 2026, 09:01 to 09:05 UTC",
        "Machine Linux-6.1-x86_64, 2 cores",
        "Software glassworks 0.1.0, Python 3.11.2, torch 2.13.0, transformers 5.24.0",
    ]


def test_a_verbs_own_run_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    def measure(model: str, out: str) -> None:
        """Stand-in for a verb; only its name counts."""

    out = str(tmp_path / "my run")
    with Run.start(out, measure, {"model": "packaged:smollm2", "out": out}) as run:
        run.record(*RETRIEVAL)
    tree = page_of(run.path)
    assert tree.css_first(".notice") is None
    assert words(tree, ".stages .status") == ["finished"]
    assert words(tree, ".stages pre")[0] == f"glassworks measure --config '{out}/config.yaml'"
    assert words(tree, ".facts dt") == ["Model", "Data", "Measured", "Machine", "Software"]
    assert "glassworks measure --config" in tree.css_first(".claims .how").text()


def test_key_figures_are_each_systems_first_compared_claim(tmp_path: Path) -> None:
    bare, compared = CIRCUITS[2], CIRCUITS[0]
    write_stage(tmp_path / "run" / "circuits", "circuits find", (bare, CIRCUITS[1], compared))
    tree = page_of(tmp_path / "run")
    assert words(tree, ".headline .sentence") == [compared.claim]
    assert words(tree, ".headline .number") == ["0.936 agreement 0.907 to 0.957 n = 400"]


def test_bare_counts_are_key_figures_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    write_stage(tmp_path / "run" / "index", "index", (dataclasses.replace(RETRIEVAL[4], system="store"),))
    assert words(page_of(tmp_path / "run"), ".headline .system") == ["store"]
    write_stage(tmp_path / "run" / "measure", "measure", RETRIEVAL, minute=1)
    tree = page_of(tmp_path / "run")
    assert words(tree, ".headline .system") == ["retrieval"]
    assert words(tree, "#system-1 thead th")[0] == "Recorded, with neither interval nor baseline"


def test_systems_are_sections_and_a_stages_figures_stand_with_its_claims(run: Path) -> None:
    tree = page_of(run)
    assert words(tree, "main h2") == ["Retrieval", "Circuits", "How it was made", "How to read it"]
    assert words(tree, "#system-2 figcaption") == ["Few heads are kept by every seed."]
    assert words(tree, "#system-1 .rail p") == ["6 claims, 2 figures, 3 answers"]
    assert len(tree.css("nav a")) == 4


def test_a_stage_that_did_not_finish_is_said_on_top_and_in_the_summary(run: Path) -> None:
    write_stage(run / "align", "align", minute=9, status="running")
    (run / "recipe.json").write_text(json.dumps({"compile": {"verb": "compile", "status": "started"}}))
    result = write_report(str(run))
    assert result.unfinished == ("align", "compile")
    assert "Not finished: align, compile" in result.summary()
    tree = LexborHTMLParser(Path(result.path).read_text(encoding="utf-8"))
    assert "align, compile stopped or is still running" in words(tree, ".notice")[0]
    assert words(tree, ".stages .open .status") == ["running"]


def test_each_stage_can_be_made_again_from_the_page(run: Path) -> None:
    tree = page_of(run)
    assert words(tree, ".stages pre:first-of-type") == [
        f"glassworks {verb} --config {run / name}/config.yaml"
        for name, verb in (("index", "index"), ("measure", "measure"), ("circuits", "circuits find"))
    ]
    assert "chunk_words: 256" in tree.css_first(".stages").text()
    assert words(tree, ".took") == ["13 s", "44 s", "39 s"]
    assert words(tree, "#made .rail p") == ["3 stages, 1 min 35 s in all"]


def test_long_lists_of_answers_are_cut_in_file_order_and_say_so(tmp_path: Path) -> None:
    stage = write_stage(tmp_path / "run" / "measure", "measure", RETRIEVAL)
    rows = [{**SAMPLES[2], "question": f"Question {at}?"} for at in range(30)]
    (stage / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = page_of(tmp_path / "run")
    assert words(tree, ".question") == [f"Question {at}?" for at in range(SAMPLES_SHOWN)]
    assert "The first 12 of 30 in measure/samples.jsonl, in file order; none was picked." in words(tree, ".note")


def test_notes_count_what_is_missing_and_how_many_comparisons_were_made(run: Path) -> None:
    notes = " ".join(words(page_of(run), ".prose p"))
    assert "3 of 9 figures have no interval and 3 no n" in notes
    assert "5 comparisons are made on this page" in notes
    assert "about 0.2 would still exclude its baseline by chance" in notes


def test_odd_times_are_shown_as_they_are(tmp_path: Path) -> None:
    stage = write_stage(tmp_path / "run" / "m", "measure")
    (stage / "evidence.jsonl").write_text(RETRIEVAL[3].to_json() + "\n")
    (stage / "run.json").write_text(json.dumps({"verb": "measure", "status": "finished", "started": "yesterday"}))
    tree = page_of(tmp_path / "run")
    assert words(tree, ".facts > div")[-1] == "Measured yesterday"
    assert words(tree, ".took") == ["time not recorded"]


def test_a_missing_folder_no_evidence_and_a_broken_line_each_have_their_message(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no such run folder"):
        write_report(str(tmp_path / "nowhere"))
    run = tmp_path / "run"
    stage = write_stage(run / "index", "index")
    with pytest.raises(DataError, match=r"no stage of this run recorded evidence\. Run a verb that measures"):
        write_report(str(run))
    (stage / "evidence.jsonl").write_text(RETRIEVAL[0].to_json() + "\n" + '{"system": 1}\n')
    with pytest.raises(MalformedRecord, match=r"index/evidence\.jsonl:2: "):
        write_report(str(run))
    assert not list(run.rglob("*.html"))


def test_a_failed_report_leaves_the_earlier_page_as_it_was(run: Path) -> None:
    before = Path(write_report(str(run)).path).read_bytes()
    shutil.rmtree(run / "measure")
    (run / "circuits" / "evidence.jsonl").write_text("{\n")
    with pytest.raises(MalformedRecord):
        write_report(str(run))
    assert (run / "dossier.html").read_bytes() == before


def test_the_report_is_no_stage_of_what_it_reports(run: Path) -> None:
    own = run / "dossier"
    own.mkdir()
    (own / "run.json").write_text(json.dumps({"verb": "report", "status": "running"}))
    (own / "config.yaml").write_text("run: .\n")
    assert write_report(str(run), out=str(own)).unfinished == write_report(str(run)).unfinished[:-1]
