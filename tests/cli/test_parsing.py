"""Options from signatures: positional words, nested values, YAML files and recipe stages agree."""

import pytest
from cases.sample_verbs import Pace, count
from hypothesis import given
from hypothesis import strategies as st

from glassworks.cli.parsing import arguments_from_mapping, arguments_from_words, build_parser
from glassworks.errors import MalformedRecord, OptionError, UnknownName


def parse(*words: str) -> dict[str, object]:
    return arguments_from_words("count", count, list(words))[0]


def test_positional_words_fill_required_parameters() -> None:
    assert parse("3") == parse("--upto", "3") == parse("--upto=3")
    assert parse("3")["out"] == "runs/count"


def test_nested_values_become_their_dataclass() -> None:
    assert parse("3", "--pace.pause", "0.5", "--pace.unit=goats")["pace"] == Pace(0.5, "goats")


def test_bare_boolean_flag() -> None:
    assert parse("3", "--loud")["loud"] is True
    assert parse("--loud", "3")["upto"] == 3
    assert parse("3", "--loud", "false")["loud"] is False


def test_config_file_gives_values_that_words_override(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("upto: 5\npace:\n  unit: goats\n")
    assert parse("--config", str(file))["pace"] == Pace(0.0, "goats")
    assert parse("--config", str(file), "--upto", "7")["upto"] == 7


def test_config_file_mistakes_name_file_and_key(tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("upto: 5\npace:\n  unti: goats\n")
    with pytest.raises(UnknownName, match=r"c\.yaml: unknown option 'pace\.unti'. Did you mean pace\.unit"):
        parse("--config", str(file))
    file.write_text("upto: 5\npace: [\n")
    with pytest.raises(MalformedRecord, match=r"c\.yaml:3: not valid YAML"):
        parse("--config", str(file))


def test_stage_options_are_checked_like_words() -> None:
    assert arguments_from_mapping("count", count, {"upto": 3}, place="x") == parse("3")
    with pytest.raises(OptionError, match="x: upto: expected a value of type int, received 'many'"):
        arguments_from_mapping("count", count, {"upto": "many"}, place="x")
    with pytest.raises(OptionError, match="upto: this option is required"):
        arguments_from_mapping("count", count, {}, place="x")


def test_print_config_is_accepted_back(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("3", "--pace.unit", "goats", "--print_config")
    file = tmp_path / "c.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse("--config", str(file)) == parse("3", "--pace.unit", "goats")


def test_help_texts_come_from_the_docstring() -> None:
    text = build_parser("count", count).format_help()
    assert "usage: glassworks count UPTO [options]" in text
    assert "the last number" in text
    assert "seconds between numbers" in text
    assert "Args:" not in text


@given(st.integers(0, 10**6), st.floats(0, 10, allow_nan=False), st.booleans())
def test_words_and_mapping_agree(upto: int, pause: float, loud: bool) -> None:
    words = parse(str(upto), "--pace.pause", repr(pause), "--loud", str(loud).lower())
    mapping = {"upto": upto, "pace": {"pause": pause}, "loud": loud}
    assert words == arguments_from_mapping("count", count, mapping, place="x")
