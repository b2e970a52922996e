"""The verb that migrates: every tool's file is accepted by the real verb, written once, and says what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cases.foreign_configs import CONFIGS

from glassworks.cli.main import main
from glassworks.cli.migrate import CONVERTERS, converted, migrate, recognise
from glassworks.cli.parsing import arguments_from_mapping
from glassworks.errors import OptionError, UnknownName
from glassworks.preference.losses import settings_of
from glassworks.preference.train import align

TOOLS = {
    "official-simpo": "alignment-handbook", "trl-simpo": "trl", "llama-factory": "llama-factory", "axolotl": "axolotl",
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_migrated_configuration_is_accepted_by_the_real_verb(name: str) -> None:
    values = yaml.safe_load(CONFIGS[name])
    assert recognise(values, name) == TOOLS[name]
    verb, options, notes = converted(values, TOOLS[name], name, 1)
    assert verb == "align"
    arguments = arguments_from_mapping(verb, align, options, place=name)
    assert arguments["method"] == "simpo"
    settings_of("simpo", arguments["settings"])
    arguments["optimisation"].check(1)
    arguments["pairs"].check()
    assert notes


def test_the_command_writes_a_file_that_says_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "simpo.yaml"
    source.write_text(CONFIGS["official-simpo"])
    assert main(["migrate", str(source), "--devices", "4"]) == 0
    target = tmp_path / "simpo.glassworks.yaml"
    said = capsys.readouterr().out
    assert f"Run: glassworks align --config {target}" in said
    text = target.read_text()
    assert text.startswith(f"# glassworks align --config {target}\n")
    assert "# A step has 128 pairs: 2 x 16 x 4 devices" in text
    assert yaml.safe_load(text)["settings"]["gamma_beta_ratio"] == 0.55
    with pytest.raises(OptionError, match="this file exists already"):
        migrate(str(source))


def test_refusals(tmp_path: Path) -> None:
    source = tmp_path / "other.yaml"
    source.write_text("temperature: 1\n")
    with pytest.raises(OptionError, match=r"no tool is recognised .*--tool: axolotl"):
        migrate(str(source))
    with pytest.raises(OptionError, match="devices: expected at least 1"):
        migrate(str(source), devices=0)
    assert [file.name for file in tmp_path.iterdir()] == ["other.yaml"]


def test_a_row_a_tool_and_options_that_the_verb_lacks_are_found() -> None:
    assert set(CONVERTERS) == set(TOOLS.values())
    with pytest.raises(UnknownName, match="unknown option 'batch_pairs'"):
        arguments_from_mapping("align", align, {"model": "m", "data": "d", "batch_pairs": 3}, place="x")
