"""What the package shows: the verbs, each one function with a documented option per parameter, and the version."""

import inspect
from importlib.metadata import version

import docstring_parser
import pytest

import glassworks
from glassworks.cli.parsing import build_parser
from glassworks.cli.verbs import VERBS, function_name, load_verb, summary_line


def test_version_is_the_installed_one() -> None:
    assert glassworks.__version__ == version("glassworks")


def test_names_of_commands_and_functions() -> None:
    assert list(VERBS) == [
        "align",
        "check-template",
        "prefs sample",
        "prefs score",
        "prefs binarize",
        "prefs analyze",
        "prefs compare",
        "index",
        "ask",
        "measure",
        "answer",
        "certify",
        "train-reader",
        "check-model",
        "eliza chat",
        "eliza compile",
        "eliza generate",
        "eliza train",
        "eliza evaluate",
        "eliza counterfactual",
        "eliza probe",
        "circuits find",
        "circuits eval",
        "circuits compare",
        "circuits draw",
        "circuits data",
        "circuits toy",
        "subnetworks toy",
        "subnetworks search",
        "subnetworks evaluate",
        "subnetworks core",
        "subnetworks ablate",
        "subnetworks effective-size",
        "subnetworks attention",
        "subnetworks export",
        "subnetworks plot",
        "winrate alpaca",
        "winrate arena",
        "winrate mt-bench",
        "report",
        "run",
        "migrate",
        "completion",
    ]
    for command in VERBS:
        assert getattr(glassworks, function_name(command)) is load_verb(command)


@pytest.mark.parametrize("command", VERBS)
def test_every_option_is_typed_documented_and_shown(command: str) -> None:
    function = load_verb(command)
    signature = inspect.signature(function)
    described = {item.arg_name: item.description for item in docstring_parser.parse(function.__doc__).params}
    assert summary_line(command) == (function.__doc__ or "").strip().splitlines()[0]
    assert len(summary_line(command)) <= 100
    assert list(described) == list(signature.parameters), "the docstring's Args and the signature differ"
    assert len(signature.parameters) <= 12
    assert all(described.values())
    text = build_parser(command, function).format_help()
    for name in signature.parameters:
        assert f"--{name}" in text
