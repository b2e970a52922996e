"""The command ``glassworks``: find the verb, parse its options, call it, show its result, map errors to exit codes.

Exit codes: 0 done, 2 something the user can mend (one line on standard error), 130 interrupted. Anything else is a
bug and keeps its traceback. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import glassworks
from glassworks.cli.parsing import arguments_from_words
from glassworks.cli.verbs import GOALS, GROUPS, load_verb, split_command, summary_line
from glassworks.errors import UserError
from glassworks.foundations.files import is_out_of_space, out_of_space
from glassworks.foundations.runs import as_result, command_name


def main(words: list[str] | None = None) -> int:
    """Run one command. words: the command line without the program's name; the process's own when None."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        if not words or words[0] in {"-h", "--help", "help"}:
            print(help_text())
            return 0
        if words[0] == "--version":
            print(f"glassworks {glassworks.__version__}")
            return 0
        return _dispatch(words)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to say, and flushing at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def help_text() -> str:
    """The page of ``glassworks --help``: what it is, and the verbs by what a user wants."""
    lines = [
        textwrap.fill(glassworks.__doc__ or "", 88),
        "",
        "usage: glassworks COMMAND [arguments] [options]",
    ]
    for group, verbs in GROUPS.items():
        if verbs:
            lines += ["", f"{group}: {GOALS[group]}"]
            lines += [f"  {command:<28}{summary_line(command)}" for command in verbs]
    lines += [
        "",
        "glassworks COMMAND --help shows a command's options; --config FILE reads them from YAML,",
        "--print_config writes them out, --json prints the result as JSON.",
    ]
    return "\n".join(lines)


def _dispatch(words: list[str]) -> int:
    command, rest = split_command(words)
    _quiet_libraries()
    function = load_verb(command)
    arguments, as_json = arguments_from_words(command, function, rest)
    token = command_name.set(command)
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result = function(**arguments)
    except (OSError, RuntimeError) as error:
        if is_out_of_space(error):
            raise out_of_space(Path(str(arguments.get("out", ".")))) from error
        raise
    finally:
        command_name.reset(token)
    _show(result, as_json)
    _leave_process_group()
    return 0


def _leave_process_group() -> None:
    """Under torchrun a process that ends with its connections open is sometimes aborted, and the launcher with it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _show(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(as_result(result), ensure_ascii=False, default=str))
    elif hasattr(result, "summary"):
        print(result.summary())
    elif result is not None:
        print(result)


def _quiet_libraries() -> None:
    """Keep other libraries' chatter off the terminal; a warning of ours is still shown."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("glassworks").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning)  # for those who call an API, which a user does not
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
