"""The table of verbs: every entry exists, and commands of one or two words are found at the start of a line."""

import importlib.util

import pytest

from glassworks.cli import verbs
from glassworks.cli.verbs import GOALS, GROUPS, VERBS, function_name, load_verb, split_command, summary_line
from glassworks.errors import UnknownName


def test_groups_have_goals_and_cover_all_verbs() -> None:
    assert list(GROUPS) == list(GOALS)
    assert [command for group in GROUPS.values() for command in group] == list(VERBS)


@pytest.mark.parametrize("command", VERBS)
def test_target_exists_and_its_first_line_is_read_without_importing(command: str) -> None:
    module, _, name = VERBS[command].partition(":")
    assert importlib.util.find_spec(module) is not None
    assert function_name(command) == name
    assert summary_line(command)


def test_the_longer_command_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verbs.VERBS, "circuits", "m:a")
    monkeypatch.setitem(verbs.VERBS, "circuits find", "m:b")
    assert split_command(["circuits", "find", "--model", "m"]) == ("circuits find", ["--model", "m"])
    assert split_command(["circuits", "list"]) == ("circuits", ["list"])


def test_unknown_commands_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown command 'idnex'. Did you mean index?"):
        split_command(["idnex"])
    with pytest.raises(UnknownName, match="unknown command 'mesure'"):
        load_verb("mesure")
