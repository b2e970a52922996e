"""The command as a person meets it: help, results, JSON, and one-line errors with exit code 2."""

import json
import subprocess
import sys

import pytest
import torch.distributed as distributed

import glassworks
from glassworks.cli import main
from glassworks.cli.verbs import GROUPS, VERBS


def test_help_groups_verbs_by_goal_and_imports_no_torch() -> None:
    code = "import sys; from glassworks.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in VERBS:
        assert f"  {command} " in done.stdout
    shown = [group for group in GROUPS if f"\n{group}: " in done.stdout]
    assert shown == [group for group in GROUPS if GROUPS[group]]
    assert list(GROUPS) == ["build", "improve", "ground", "understand", "assess", "run"]


def test_import_needs_no_torch() -> None:
    code = "import sys, glassworks; sys.exit(any(m in sys.modules for m in ('torch', 'jsonargparse', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_verbs_are_attributes_of_the_package() -> None:
    assert glassworks.run.__name__ == "run"
    assert "check_model" in dir(glassworks)
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        _ = glassworks.runn


@pytest.mark.usefixtures("sample_verbs")
def test_result_summary_and_json(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "count")
    assert main(["count", "3", "--out", out, "--loud"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1\n2\n3\n")
    assert "Numbers counted: 3 sheep, n = 3" in printed
    assert main(["add-up", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"total": 6}
    assert main(["count", "4", "--out", str(tmp_path / "other"), "--loud", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["evidence"][0]["value"] == 4
    assert captured.err.startswith("1\n2\n")


@pytest.mark.usefixtures("sample_verbs")
def test_a_command_that_is_one_of_several_processes_leaves_their_group(tmp_path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    assert main(["count", "3", "--out", str(tmp_path / "count")]) == 0
    assert not distributed.is_initialized()


@pytest.mark.usefixtures("sample_verbs")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cuont", "3"], "unknown command 'cuont'. Did you mean count"),
        (["count", "3", "--louud"], "unknown option '--louud'. Did you mean --loud"),
        (["count", "three"], "--upto: expected a value of type int, received 'three'"),
        (
            ["count", "3", "--pace.unit", "goat"],
            "--pace.unit: expected one of sheep, goats, received 'goat'. Did you mean",
        ),
        (["count", "3", "--pace.unitt", "goats"], "unknown option '--pace.unitt'. Did you mean --pace.unit"),
        (["count"], "--upto: this option is required"),
        (["count", "3", "4"], "unexpected argument '4'"),
        (["count", "3", "--source", "nowhere.txt"], "nowhere.txt: no such file. Check the path."),
        (["count", "3", "--config", "nowhere.yaml"], "nowhere.yaml: cannot read the file"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    words: list[str], message: str, tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"error: {message}"), captured.err
    assert not list(tmp_path.iterdir())


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repport"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'repport'. Did you mean report?\n"
