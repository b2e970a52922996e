"""Run folders: manifest last, resumable, one process, other runs refused, nothing left by a refused call."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from glassworks.errors import DataNotFound, OutOfSpace, RunError, RunLocked, RunMismatch
from glassworks.foundations.evidence import Evidence, read_evidence
from glassworks.foundations.runs import Run, as_result, is_intact, plain, read_manifest


def verb(out: str, size: int = 3) -> Run:
    with Run.start(out, verb, {"out": out, "size": size}) as run:
        (run.path / "artefact.txt").write_text("x" * size)
        run.log(step=1, loss=0.5, bad=float("nan"))
        run.record(Evidence("test", "Size", "size", size, unit="bytes", interval=(2, 4), n=1))
    return run


def test_a_finished_run_can_be_repeated_from_its_folder(tmp_path: Path) -> None:
    run = verb(str(tmp_path / "run"))
    assert is_intact(run.path)
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"size": 3, "out": str(run.path)}
    (evidence,) = read_evidence(run.path)
    assert evidence.command == f"glassworks verb --config {run.path / 'config.yaml'}"
    assert evidence.created
    assert evidence.id == evidence.key
    assert json.loads((run.path / "metrics.jsonl").read_text())["bad"] is None
    assert "Size: 3 bytes [2, 4], n = 1" in run.summary()
    assert as_result(run)["evidence"][0]["value"] == 3
    manifest = read_manifest(run.path)
    assert manifest is not None
    assert set(manifest["outputs"]) == {"artefact.txt", "config.yaml", "evidence.jsonl", "metrics.jsonl"}


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_output_is_seen(tmp_path: Path, damage: str) -> None:
    run = verb(str(tmp_path / "run"))
    file = run.path / "artefact.txt"
    file.write_text("yyy") if damage == "change" else file.unlink()
    assert not is_intact(run.path)


def test_other_options_and_other_verbs_are_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    verb(out)
    with pytest.raises(RunMismatch, match="the run there has size = 3, this call has size = 4"):
        verb(out, size=4)
    with pytest.raises(RunMismatch, match="holds a run of 'verb', not of 'plain'"):
        Run.start(out, plain, {})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(RunMismatch, match=r"not a run folder; it holds 'thesis\.tex'"):
        verb(str(tmp_path / "mine"))
    with pytest.raises(RunMismatch, match="expected a folder, found a file"):
        verb(str(tmp_path / "mine" / "thesis.tex"))
    with pytest.raises(RunError, match=r"thesis\.tex/run: no run can be kept there"):
        verb(str(tmp_path / "mine" / "thesis.tex" / "run"))


def test_a_refused_call_leaves_nothing(tmp_path: Path) -> None:
    for out in ("run", "runs/one", "runs/of/many"):
        with pytest.raises(DataNotFound), Run.start(tmp_path / out, verb, {}):
            raise DataNotFound("no such file")
        assert not list(tmp_path.iterdir())


def test_a_refused_call_leaves_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound), Run.start(tmp_path / "runs/one", verb, {}):
        with Run.start(tmp_path / "runs/two", verb, {}):
            pass
        raise DataNotFound("no such file")
    assert is_intact(tmp_path / "runs/two")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["two"]


def test_work_that_failed_stays_to_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Run.start(tmp_path / "run", verb, {}) as run:
        (run.path / "half.txt").write_text("half")
        _ = 1 / 0
    manifest = read_manifest(tmp_path / "run")
    assert manifest is not None
    assert manifest["status"] == "running"
    assert not is_intact(tmp_path / "run")
    with Run.start(tmp_path / "run", verb, {}) as again:
        assert (again.path / "half.txt").read_text() == "half"
    assert is_intact(tmp_path / "run")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = "import sys; from glassworks.foundations.runs import Run, plain; Run.start(sys.argv[1], plain, {})"
    with Run.start(tmp_path / "run", plain, {}):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "RunLocked" in done.stderr
    assert "is working in this run folder" in done.stderr
    with Run.start(tmp_path / "run", plain, {}), pytest.raises(RunLocked):
        Run.start(tmp_path / "run", plain, {})


def test_full_disk_is_told_and_the_run_continues_later(tmp_path: Path) -> None:
    with (
        pytest.raises(OutOfSpace, match="the disk is full. Free some space and run the same command again"),
        Run.start(tmp_path / "run", plain, {}) as run,
        Path("/dev/full").open("w") as full,  # every write fails with ENOSPC
    ):
        (run.path / "kept.txt").write_text("kept")
        full.write("x")
        full.flush()
    assert (tmp_path / "run" / "kept.txt").read_text() == "kept"
    with Run.start(tmp_path / "run", plain, {}):
        pass


def test_a_resumed_run_logs_each_step_once(tmp_path: Path) -> None:
    with Run.start(tmp_path / "run", plain, {}) as run:
        for step in (1, 2, 3):
            run.log(step=step)
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4, "lo')  # the line a kill cut off
        run.rewind_log(2)
        run.log(step=3)
    steps = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_later_processes_of_a_launch_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(out: str) -> None: ...

    monkeypatch.setenv("RANK", "1")
    with Run.start(tmp_path / "run", verb, {"out": "run"}) as run:
        run.log(step=1, loss=1.0)
        run.record(Evidence("s", "c", "m", 1.0))
    assert not (tmp_path / "run").exists()
    assert len(run.evidence) == 1
