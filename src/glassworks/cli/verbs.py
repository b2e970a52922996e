"""The table of verbs: command -> function, grouped by what a user wants. The only list of commands there is.

A verb's options, types, defaults and help come from the function's own signature and docstring. The table imports
nothing, so that ``glassworks --help`` needs no torch; one-line summaries are read from the source.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glassworks.errors import UnknownName

GROUPS: dict[str, dict[str, str]] = {
    "build": {},
    "improve": {
        "align": "glassworks.preference.train:align",
        "check-template": "glassworks.foundations.check_template:check_template",
        "prefs sample": "glassworks.preference.sampling:prefs_sample",
        "prefs score": "glassworks.preference.scoring:prefs_score",
        "prefs binarize": "glassworks.preference.binarize:prefs_binarize",
        "prefs analyze": "glassworks.preference.analyze:prefs_analyze",
        "prefs compare": "glassworks.preference.compare:prefs_compare",
    },
    "ground": {
        "index": "glassworks.retrieval.index:index",
        "ask": "glassworks.retrieval.answer:ask",
        "measure": "glassworks.retrieval.evaluate:measure",
        "answer": "glassworks.robustness.answer:answer",
        "certify": "glassworks.robustness.evaluate:certify",
        "train-reader": "glassworks.robustness.train:train_reader",
    },
    "understand": {
        "check-model": "glassworks.foundations.check_model:check_model",
        "eliza chat": "glassworks.eliza.chat:eliza_chat",
        "eliza compile": "glassworks.eliza.compile_verb:eliza_compile",
        "eliza generate": "glassworks.eliza.generate:eliza_generate",
        "eliza train": "glassworks.eliza.train:eliza_train",
        "eliza evaluate": "glassworks.eliza.evaluate:eliza_evaluate",
        "eliza counterfactual": "glassworks.eliza.evaluate:eliza_counterfactual",
        "eliza probe": "glassworks.eliza.probes:eliza_probe",
        "circuits find": "glassworks.circuits.find:find_circuit",
        "circuits eval": "glassworks.circuits.evaluate:evaluate_circuit",
        "circuits compare": "glassworks.circuits.compare:compare_circuits",
        "circuits draw": "glassworks.circuits.draw:draw_circuit",
        "circuits data": "glassworks.circuits.data:circuit_data",
        "circuits toy": "glassworks.circuits.data:toy_circuit_model",
        "subnetworks toy": "glassworks.circuits.subnetworks:toy_subnetworks",
        "subnetworks search": "glassworks.circuits.subnetworks:search_subnetworks",
        "subnetworks evaluate": "glassworks.circuits.subnetworks:evaluate_subnetworks",
        "subnetworks core": "glassworks.circuits.subnetwork_reports:core_of_subnetworks",
        "subnetworks ablate": "glassworks.circuits.subnetwork_probing:ablate_subnetworks",
        "subnetworks effective-size": "glassworks.circuits.subnetwork_probing:effective_sizes",
        "subnetworks attention": "glassworks.circuits.subnetwork_probing:attention_of_core",
        "subnetworks export": "glassworks.circuits.subnetwork_reports:export_subnetwork",
        "subnetworks plot": "glassworks.circuits.subnetwork_reports:plot_subnetworks",
    },
    "assess": {
        "winrate alpaca": "glassworks.preference.win_rate:winrate_alpaca",
        "winrate arena": "glassworks.preference.win_rate:winrate_arena",
        "winrate mt-bench": "glassworks.preference.win_rate:winrate_mt_bench",
        "report": "glassworks.report.dossier:write_report",
    },
    "run": {
        "run": "glassworks.cli.recipe:run",
        "migrate": "glassworks.cli.migrate:migrate",
        "completion": "glassworks.cli.completion:completion",
    },
}

GOALS = {
    "build": "pre-train a language model",
    "improve": "align, extend and prepare a model",
    "ground": "answer from your documents, with citations",
    "understand": "see the parts of a model and what they do",
    "assess": "turn measurements into evidence for a decision",
    "run": "run several of these as one recipe",
}

VERBS: dict[str, str] = {command: target for verbs in GROUPS.values() for command, target in verbs.items()}


def function_name(command: str) -> str:
    """The name of a command's function, for ``glassworks.<name>`` in Python."""
    return VERBS[command].partition(":")[2]


def load_verb(command: str) -> Callable[..., Any]:
    """Import the function of a command. Raises UnknownName, giving the nearest commands, where there is none."""
    if command not in VERBS:
        raise UnknownName("command", command, VERBS)
    module, _, name = VERBS[command].partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def source_file(command: str) -> Path:
    """The file that holds a verb's function, found without importing it. Raises ModuleNotFoundError."""
    module = VERBS[command].partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin)


def summary_line(command: str) -> str:
    """The first line of a verb's docstring, read from its source without importing it."""
    name = function_name(command)
    tree = ast.parse(source_file(command).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def split_command(words: list[str]) -> tuple[str, list[str]]:
    """Split an argument list into the command it begins with (one word or two) and the rest."""
    for length in (2, 1):
        command = " ".join(words[:length])
        if len(words) >= length and command in VERBS:
            return command, words[length:]
    raise UnknownName("command", words[0], VERBS)
