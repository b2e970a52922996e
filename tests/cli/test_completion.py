"""The completion script is shell code that knows every command and option."""

import re
import shutil
import subprocess

import pytest

from glassworks.cli.completion import completion
from glassworks.cli.verbs import VERBS


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_accepts_the_script_and_completes_a_command() -> None:
    script = completion("bash").summary()
    asked = script + "\nCOMP_WORDS=(glassworks che); COMP_CWORD=1; _shtab_glassworks; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {"check-template", "check-model"}, done.stderr
    asked = script + "\nCOMP_WORDS=(glassworks circuits d); COMP_CWORD=2; _shtab_glassworks; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {"draw", "data"}, done.stderr


def test_every_command_and_option_is_in_it() -> None:
    script = completion("zsh").script
    for command in VERBS:
        assert f"_shtab_glassworks_{re.sub('[ -]', '_', command)}_options=(" in script
    assert "--chunk_words" in script
