"""Verb `completion`: a shell script that completes commands and options, made by shtab from the same parsers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Literal

from glassworks.cli.parsing import build_parser
from glassworks.cli.verbs import VERBS, load_verb, summary_line
from glassworks.errors import MissingDependency


@dataclass(frozen=True)
class CompletionScript:
    """A completion script. shell: which shell it is for; script: its text."""

    shell: str
    script: str

    def summary(self) -> str:
        """The script itself, to be sourced by the shell."""
        return self.script


def completion(shell: Literal["bash", "zsh", "tcsh"]) -> CompletionScript:
    """Print a script that completes commands and options in your shell.

    Use it as ``eval "$(glassworks completion bash)"``.

    Args:
        shell: the shell to write for.
    """
    try:
        import shtab
    except ImportError:
        raise MissingDependency("shtab", "completion") from None
    parser = argparse.ArgumentParser(prog="glassworks")
    commands = parser.add_subparsers()
    groups: dict[str, Any] = {}  # of two-word commands: the first word -> its own commands
    for command in VERBS:
        first, _, second = command.partition(" ")
        verb = build_parser(command, load_verb(command))
        if second and first not in groups:
            groups[first] = commands.add_parser(first, help=f"{first} ...").add_subparsers()
        among = groups[first] if second else commands
        target = among.add_parser(second or first, help=summary_line(command))
        for action in verb._actions:
            flags = [text for text in action.option_strings if text not in {"-h", "--help"}]
            if flags:
                choices = getattr(action, "choices", None)
                text = " ".join(str(action.help or flags[0]).split()).replace("%", "%%")  # zsh shows it
                target.add_argument(*flags, choices=list(choices) if choices else None, help=text)
    return CompletionScript(shell, shtab.complete(parser, shell=shell))
