"""``python -m glassworks`` is the command: the same words, the same exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glassworks.cli import main


def as_module(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "glassworks", *words], capture_output=True, text=True, check=False)


def test_help_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    done = as_module("--help")
    main(["--help"])
    assert (done.returncode, done.stdout) == (0, capsys.readouterr().out)
    assert "usage: glassworks" in done.stdout


def test_a_mistake_is_one_line_and_exit_code_2() -> None:
    done = as_module("repport")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown command 'repport'. Did you mean report?\n"
