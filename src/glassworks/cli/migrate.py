"""Verb `migrate`: a configuration of another tool becomes one of a verb here, with what differs said.

The table CONVERTERS holds one row a tool: which verb it becomes, how its files are recognised, and the function that
takes its keys. A further tool is a further row. What comes out is checked by the verb's own parser before it is
written, so a migrated file runs. Lives on the command line's floor: it names verbs and imports no system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from glassworks.cli import migrate_alignment
from glassworks.cli.foreign import Foreign
from glassworks.cli.parsing import arguments_from_mapping, read_yaml
from glassworks.cli.verbs import load_verb
from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.files import write_text

Tool = Literal["auto", "alignment-handbook", "trl", "llama-factory", "axolotl"]


class Converter(NamedTuple):
    """verb: what the tool's configuration becomes. recognises: of a file's keys. convert: takes the keys."""

    verb: str
    recognises: Callable[[dict[str, Any]], bool]
    convert: Callable[[Foreign, int], None]


CONVERTERS: dict[str, Converter] = {
    # The first that recognises a file takes it, so the tools with keys of their own come first.
    "axolotl": Converter("align", lambda keys: "base_model" in keys, migrate_alignment.from_axolotl),
    "llama-factory": Converter(
        "align", lambda keys: bool({"pref_loss", "pref_beta", "finetuning_type", "stage"} & keys.keys()),
        migrate_alignment.from_llama_factory,
    ),
    "alignment-handbook": Converter(
        "align", lambda keys: bool({"dataset_mixer", "gamma_beta_ratio"} & keys.keys()),
        migrate_alignment.from_alignment_handbook,
    ),
    "trl": Converter(
        "align", lambda keys: bool({"loss_type", "cpo_alpha", "simpo_gamma", "dataset_name"} & keys.keys()),
        migrate_alignment.from_trl,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Migration:
    """A migrated configuration: the tool it came from, the verb and file it became, its options, and what differs."""

    tool: str
    verb: str
    file: str
    options: dict[str, Any]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """What a person reads: what differs, then the command to run."""
        notes = [f"- {note}" for note in self.notes]
        head = f"{self.tool} configuration -> glassworks {self.verb}"
        return "\n".join([head, *notes, f"Run: glassworks {self.verb} --config {self.file}"])


def migrate(file: str, out: str | None = None, tool: Tool = "auto", devices: int = 1) -> Migration:
    """Translate another tool's training configuration into one of a verb here, and say what differs.

    Shell: glassworks migrate llama-3-8b-instruct-simpo.yaml --devices 4

    Args:
        file: The tool's YAML or JSON configuration.
        out: The YAML file to write, which must not exist; none: FILE's name ending in .glassworks.yaml.
        tool: Whose configuration it is; auto: by its keys.
        devices: How many devices it was written for: the tools count a batch by device.
    """
    check_at_least(1, devices=devices)
    values = read_yaml(Path(file))
    target = Path(out) if out else Path(file).with_suffix(".glassworks.yaml")
    if target.exists():
        raise OptionError("this file exists already", place=str(target), remedy="Choose another --out.")
    name = recognise(values, file) if tool == "auto" else tool
    verb, options, notes = converted(values, name, file, devices)
    arguments_from_mapping(verb, load_verb(verb), options, place=f"{file}, migrated")
    header = [
        f"# glassworks {verb} --config {target}",
        f"# From a configuration of {name}.",
        *(f"# {n}" for n in notes),
    ]
    write_text(target, "\n".join(header) + "\n" + yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    return Migration(name, verb, str(target), options, tuple(notes))


def recognise(values: dict[str, Any], place: str) -> str:
    """The tool that a configuration's keys belong to. Raises OptionError where none is recognised."""
    for name, converter in CONVERTERS.items():
        if converter.recognises(values):
            return name
    known = ", ".join(CONVERTERS)
    raise OptionError("no tool is recognised by its keys", place=place, remedy=f"Name it with --tool: {known}.")


def converted(values: dict[str, Any], tool: str, place: str, devices: int) -> tuple[str, dict[str, Any], list[str]]:
    """The verb, its options and the notes that a tool's configuration becomes; not yet checked by the verb."""
    converter, foreign = CONVERTERS[tool], Foreign(values, place)
    converter.convert(foreign, devices)
    options = foreign.finish()
    return converter.verb, options, foreign.notes
