"""The README's two commands exist, and every command line in it is one that the parser accepts."""

import re
import subprocess
from pathlib import Path

from glassworks.cli.verbs import VERBS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_block_is_the_two_commands() -> None:
    first = re.search(r"```\n(.*?)```", TEXT, re.S)
    assert first is not None
    targets = re.findall(r"^make (\w+)", first[1], re.M)
    assert targets == ["run", "test"]
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_command_named_is_a_verb() -> None:
    named = set()
    for first, second in re.findall(r"`glassworks ([a-z-]+)(?: ([a-z/-]+)`)?", TEXT):
        named |= {f"{first} {word}" for word in second.split("/")} if second else {first}
    assert named == set(VERBS) - {"completion"}
