"""From a verb's signature to its options: one parser for the command line, ``--config`` files and recipe stages.

jsonargparse does the parsing and the type checks; this module adds what a person at a terminal expects: positional
words for the required parameters, bare flags for booleans, and errors of one line that name the nearest valid option.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docstring_parser
import jsonargparse
import yaml

from glassworks.errors import DataNotFound, MalformedRecord, OptionError, UnknownName

_TYPE_ERROR = re.compile(r'Parser key "(?P<key>[^"]+)":\s+Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)', re.S)
_BOOLEAN = {"true", "false", "yes", "no"}


def build_parser(command: str, function: Callable[..., Any]) -> jsonargparse.ArgumentParser:
    """The parser of one verb: an option per parameter, ``--config`` and ``--print_config``."""
    doc = docstring_parser.parse(function.__doc__ or "")
    description = "\n\n".join(part for part in (doc.short_description, doc.long_description) if part)
    required = [name for name, item in inspect.signature(function).parameters.items() if item.default is item.empty]
    usage = " ".join(["glassworks", command, *(name.upper() for name in required), "[options]"])
    parser = jsonargparse.ArgumentParser(
        prog=f"glassworks {command}",
        usage=usage,
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=jsonargparse.DefaultHelpFormatter,
    )
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_function_arguments(function, as_group=False, fail_untyped=True)
    return parser


def arguments_from_words(command: str, function: Callable[..., Any], words: list[str]) -> tuple[dict[str, Any], bool]:
    """Parse the words after a command. Returns the verb's arguments and whether ``--json`` was given.

    Raises UnknownName or OptionError, one line each. ``--help`` and ``--print_config`` print and exit.
    """
    parser = build_parser(command, function)
    options = _options(parser)
    spelled = list(_spell_out(function, options, words))
    for file in _config_files(spelled):
        _check_keys(options, read_yaml(Path(file)), place=file)
    parsed = _parsed(lambda: parser.parse_args(spelled), prefix="--")
    as_json = bool(parsed.pop("json", False))
    return _instantiated(parser, parsed), as_json


def arguments_from_mapping(
    command: str, function: Callable[..., Any], mapping: Mapping[str, Any], *, place: str
) -> dict[str, Any]:
    """Check the options of a recipe stage as the command line would. place: which stage, for the error text."""
    parser = build_parser(command, function)
    _check_keys(_options(parser), mapping, place=place)
    parsed = _parsed(lambda: parser.parse_object(dict(mapping)), prefix=f"{place}: ")
    parsed.pop("json", None)
    return _instantiated(parser, parsed)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises DataNotFound or MalformedRecord, the latter with file and line."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataNotFound(f"cannot read the file ({error.strerror})", place=str(path)) from None
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"not UTF-8 text (byte {error.start})", place=str(path)) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MalformedRecord(f"not valid YAML ({error.problem})", place=f"{path}:{line}") from None
    if not isinstance(value, dict):
        raise MalformedRecord(f"expected a mapping of options, found {type(value).__name__}", place=str(path))
    return value


def _options(parser: jsonargparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {text.lstrip("-"): action for text, action in parser._option_string_actions.items()}


def _spell_out(function: Callable[..., Any], options: Mapping[str, argparse.Action], words: list[str]) -> Iterator[str]:
    """Give positional words the names of required parameters, and bare boolean flags the value true."""
    signature = inspect.signature(function).parameters
    given = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")}
    free = [name for name, item in signature.items() if item.default is item.empty and name not in given]
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            if not free:
                raise OptionError(f"unexpected argument '{word}'", remedy="Options are written as --name value.")
            yield from (f"--{free.pop(0)}", word)
            continue
        name = word.lstrip("-").partition("=")[0].rstrip("+")
        if not _known(options, name):
            raise UnknownName("option", f"--{name}", [f"--{option}" for option in options if len(option) > 1])
        yield word
        action = options.get(name)
        if "=" in word or (action is not None and action.nargs == 0) or name == "print_config":
            continue
        is_boolean = name in signature and str(signature[name].annotation) in {"bool", "<class 'bool'>"}
        if is_boolean and (not rest or rest[0].lower() not in _BOOLEAN):
            yield "true"
        elif rest:
            yield rest.pop(0)


def _known(options: Mapping[str, argparse.Action], name: str) -> bool:
    """Whether an option exists, or is an entry of an option that holds a mapping (``--inputs.model``)."""
    parent = name.partition(".")[0]
    has_fields = any(option.startswith(f"{parent}.") for option in options)
    return name in options or ("." in name and parent in options and not has_fields)


def _config_files(words: list[str]) -> Iterator[str]:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word.startswith("--config="):
            yield word.partition("=")[2]
        elif word == "--config":
            yield following


def _check_keys(options: Mapping[str, argparse.Action], mapping: Mapping[str, Any], *, place: str) -> None:
    for key, value in mapping.items():
        if not _known(options, str(key)):
            raise UnknownName("option", str(key), [option for option in options if len(option) > 1], place=place)
        if isinstance(value, Mapping) and any(option.startswith(f"{key}.") for option in options):
            _check_keys(options, {f"{key}.{inner}": item for inner, item in value.items()}, place=place)


def _parsed(parse: Callable[[], jsonargparse.Namespace], *, prefix: str) -> jsonargparse.Namespace:
    try:
        return parse()
    except (argparse.ArgumentError, jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise _one_line(str(error), prefix) from None


def _one_line(message: str, prefix: str) -> OptionError:
    if match := _TYPE_ERROR.search(message):
        kind, value = match["type"], match["value"].strip()
        place = f"{prefix}{match['key']}"
        if kind.startswith("typing.Literal"):
            choices = re.findall(r"'([^']*)'", kind)
            near = difflib.get_close_matches(value, choices, n=1, cutoff=0.4)
            remedy = f"Did you mean {near[0]}?" if near else ""
            return OptionError(f"expected one of {', '.join(choices)}, received '{value}'", place=place, remedy=remedy)
        name = re.sub(r"<class '([^']+)'>", r"\1", kind)
        return OptionError(f"expected a value of type {name}, received '{value}'", place=place)
    if match := re.search(r"following arguments are required: (.+)", message):
        missing = match[1].split(",")[0].strip()
        return OptionError("this option is required", place=f"{prefix}{missing}", remedy="See --help.")
    if match := re.search(r'[Kk]ey "([^"]+)" is required', message):
        return OptionError("this option is required", place=f"{prefix}{match[1]}", remedy="See --help.")
    return OptionError(" ".join(message.split()), place=prefix.strip(" :") if prefix != "--" else "")


def _instantiated(parser: jsonargparse.ArgumentParser, parsed: jsonargparse.Namespace) -> dict[str, Any]:
    values = parser.instantiate(parsed)
    return {name: value for name, value in values.as_dict().items() if name != "config"}
