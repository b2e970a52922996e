"""Recipes: order, skipping what is intact, continuing after kill -9, one process a folder, early refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from glassworks.cli import main
from glassworks.cli.recipe import read_recipe, run, shipped_recipes
from glassworks.errors import RunLocked, StageFailed, UnknownName

pytestmark = pytest.mark.usefixtures("sample_verbs")

TESTS = Path(__file__).parents[1]
START = "import cases.sample_verbs as s; s.register(); import sys; from glassworks.cli import main; sys.exit(main())"


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "counting.yaml"
    file.write_text(text)
    return str(file)


COUNTING = """
inputs: {upto: 4}
stages:
  - {name: first, verb: count, with: {upto: "${inputs.upto}"}}
  - {name: sum, verb: add-up, with: {folder: "${first.out}"}}
"""


def test_stages_run_in_order_and_are_skipped_when_intact(tmp_path: Path) -> None:
    recipe, out = write(tmp_path, COUNTING), tmp_path / "run"
    result = run(recipe, str(out))
    assert [stage.status for stage in result.stages] == ["done", "done"]
    assert result.summary().endswith("The sum is 10.")
    assert json.loads((out / "sum" / "result.json").read_text()) == {"total": 10}
    assert yaml.safe_load((out / "first" / "config.yaml").read_text())["upto"] == 4
    again = run(recipe, str(out))
    assert [stage.status for stage in again.stages] == ["intact", "intact"]
    assert again.summary().endswith("The sum is 10.")


def test_a_changed_input_runs_what_depends_on_it(tmp_path: Path) -> None:
    recipe, out = write(tmp_path, COUNTING), str(tmp_path / "run")
    run(recipe, out)
    changed = run(recipe, out, inputs={"upto": "3"})
    assert [stage.status for stage in changed.stages] == ["done", "done"]
    assert changed.stages[-1].message == "The sum is 6."


def test_a_damaged_output_is_made_again(tmp_path: Path) -> None:
    recipe, out = write(tmp_path, COUNTING), tmp_path / "run"
    run(recipe, str(out))
    (out / "first" / "numbers.txt").write_text("1\n")
    assert [stage.status for stage in run(recipe, str(out)).stages] == ["done", "intact"]
    assert (out / "first" / "numbers.txt").read_text() == "1\n2\n3\n4\n"


def test_a_changed_input_file_counts_as_a_change(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("a")
    recipe = write(tmp_path, f"stages: [{{name: a, verb: count, with: {{upto: 2, source: {source}}}}}]")
    run(recipe, str(tmp_path / "run"))
    assert run(recipe, str(tmp_path / "run")).stages[0].status == "intact"
    source.write_text("b")
    assert run(recipe, str(tmp_path / "run")).stages[0].status == "done"


def test_the_first_failure_stops_with_the_stages_own_message(tmp_path: Path) -> None:
    text = """
stages:
  - {name: a, verb: count, with: {upto: 2, source: gone.txt}}
  - {name: b, verb: count, with: {upto: 1}}
"""
    with pytest.raises(StageFailed, match=r"stage 'a': gone\.txt: no such file. Check the path"):
        run(write(tmp_path, text), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "a").exists()
    assert not (tmp_path / "run" / "b").exists()


@pytest.mark.parametrize("delay", [0.15, 0.5, 0.9])
def test_kill_9_and_run_again_continues(tmp_path: Path, delay: float) -> None:
    text = """
stages:
  - {name: first, verb: count, with: {upto: 40, pace: {pause: 0.02}}}
  - {name: second, verb: count, with: {upto: 30, pace: {pause: 0.02}}}
  - {name: sum, verb: add-up, with: {folder: "${second.out}"}}
"""
    recipe, out = write(tmp_path, text), tmp_path / "run"
    words = [sys.executable, "-c", START, "run", recipe, "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "first" in process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "sum" / "run.json").exists()
    result = run(recipe, str(out))
    assert (out / "first" / "numbers.txt").read_text().split() == [str(n) for n in range(1, 41)]
    assert (out / "second" / "numbers.txt").read_text().split() == [str(n) for n in range(1, 31)]
    assert result.stages[-1].message == "The sum is 465."
    assert not list(out.rglob(".*.partial"))


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    recipe, out = (
        write(tmp_path, COUNTING.replace("4", "60").replace('upto}"', 'upto}", pace: {pause: 0.05}')),
        tmp_path / "run",
    )
    words = [sys.executable, "-c", START, "run", recipe, "--out", str(out)]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(TESTS)}, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RunLocked, match=f"process {process.pid} on .* is working in this run folder"):
            run(recipe, str(out))
    finally:
        process.kill()
        process.wait()


def test_launcher_starts_the_verb_as_a_process(tmp_path: Path) -> None:
    documents = tmp_path / "docs"
    documents.mkdir()
    (documents / "a.txt").write_text("Glass is made from sand.")
    stage = f"{{name: a, verb: index, launcher: {sys.executable}, with: {{docs: {documents}}}}}"
    result = run(write(tmp_path, f"stages: [{stage}]"), str(tmp_path / "run"))
    assert result.stages[0].status == "done"
    assert (tmp_path / "run" / "a" / "run.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [{name: a, verb: cuont}]", "stage 1 ('a'): unknown verb 'cuont'. Did you mean count?"),
        ("stages: [{name: a, verb: count, with: {uptoo: 3}}]", "stage 'a': unknown option 'uptoo'. Did you mean upto"),
        ("stages: [{name: a, verb: count, wiht: {}}]", "stage 1: unknown stage field 'wiht'. Did you mean with?"),
        (
            "stages: [{name: a, verb: count, with: {upto: x}}]",
            "stage 'a': upto: expected a value of type int, received 'x'",
        ),
        (
            "stages:\n  - {name: a, verb: add-up, with: {folder: '${b.out}'}}\n"
            "  - {name: b, verb: add-up, with: {folder: '${a.out}'}}",
            "circular reference a -> b -> a",
        ),
        ("stages: []", "expected a list under 'stages'"),
        ("- 1", "expected a mapping of options, found list"),
        ("stages: [{name: a, verb: count, with: {upto: 1}}, {name: a, verb: count}]", "the stage name 'a' is taken"),
        ("stages:\n  - {name: a\n", "not valid YAML"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = write(tmp_path, text), tmp_path / "run"
    assert main(["run", recipe, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_unknown_input_and_stage(tmp_path: Path) -> None:
    recipe = write(tmp_path, COUNTING)
    with pytest.raises(UnknownName, match="unknown input 'uptoo'. Did you mean upto"):
        run(recipe, str(tmp_path / "run"), inputs={"uptoo": "3"})
    with pytest.raises(UnknownName, match="unknown stage 'furst'. Did you mean first"):
        run(recipe, str(tmp_path / "run"), stages=("furst",))


def test_shipped_recipes_parse() -> None:
    assert {"quickstart", "tour"} <= set(shipped_recipes())
    for name in shipped_recipes():
        assert read_recipe(name).stages


def test_a_folder_that_is_no_stage_is_never_removed(tmp_path: Path) -> None:
    thesis = tmp_path / "run" / "first" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(StageFailed, match=r"stage 'first': .*not a run folder; it holds 'thesis\.tex'"):
            run(write(tmp_path, COUNTING), str(tmp_path / "run"), fresh=fresh)
        assert thesis.read_text() == "years of work"


def test_a_failed_first_stage_leaves_no_folder(tmp_path: Path) -> None:
    recipe = write(tmp_path, "stages: [{name: a, verb: count, with: {upto: 2, source: gone.txt}}]")
    with pytest.raises(StageFailed):
        run(recipe, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_intact_recipe_imports_no_verb(tmp_path: Path) -> None:
    documents = tmp_path / "docs"
    documents.mkdir()
    (documents / "a.txt").write_text("Glass is made from sand.")
    recipe = write(tmp_path, f"stages: [{{name: a, verb: index, with: {{docs: {documents}}}}}]")
    assert run(recipe, str(tmp_path / "run")).stages[0].status == "done"
    code = (
        "import sys; from glassworks.cli.recipe import run; r = run(*sys.argv[1:]); "
        "assert r.stages[0].status == 'intact'; sys.exit('lancedb' in sys.modules or 'torch' in sys.modules)"
    )
    again = [sys.executable, "-c", code, recipe, str(tmp_path / "run")]
    assert subprocess.run(again, check=False).returncode == 0
    (documents / "a.txt").write_text("Glass is made from sand and ash.")
    assert run(recipe, str(tmp_path / "run")).stages[0].status == "done"
