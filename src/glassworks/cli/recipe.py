"""Verb `run`: a recipe is a YAML list of named stages, each a verb with its options, run in order and resumed.

    inputs: {model: packaged:smollm2}            # overridden by --inputs.model
    stages:
      - {name: index, verb: index, with: {docs: "${inputs.docs}"}}
      - {name: ask, verb: ask, with: {question: Why?, store: "${index.out}"}}

Every stage works in its own folder below the recipe's. A stage is skipped while its options, its inputs and its outputs
are as they were; an interrupted one is taken up again. The whole recipe is checked before the first stage starts.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from glassworks import __version__
from glassworks.cli.parsing import arguments_from_mapping, read_yaml
from glassworks.cli.references import check_references, find_references, substitute
from glassworks.cli.verbs import VERBS, load_verb, source_file
from glassworks.errors import DataNotFound, RecipeError, StageFailed, UnknownName, UserError
from glassworks.foundations.files import path_sha, write_json, write_text
from glassworks.foundations.runs import (
    Run,
    as_result,
    command_name,
    is_intact,
    read_manifest,
    release_lock,
    take_lock,
)

RECORD = "recipe.json"
_STAGE_FIELDS = {"name", "verb", "with", "launcher"}


@dataclass(frozen=True)
class Stage:
    """One step of a recipe. options: as written, references unresolved. launcher: a command that starts the verb."""

    name: str
    verb: str
    options: dict[str, Any] = field(default_factory=dict)
    launcher: str = ""


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe. source: the file; inputs: name -> default value."""

    source: Path
    inputs: dict[str, Any]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class StageResult:
    """How a stage went. status: "done" or "intact"; seconds: of the run that made it; message: the verb's summary."""

    name: str
    verb: str
    status: str
    seconds: float
    message: str


@dataclass(frozen=True)
class RecipeResult:
    """How a recipe went. out: its folder; seconds: this call's wall time."""

    out: str
    stages: tuple[StageResult, ...]
    seconds: float

    def summary(self) -> str:
        """One line a stage, then what the last stage says."""
        width = max(len(stage.name) for stage in self.stages)
        lines = [f"  {stage.name:<{width}}  {stage.seconds:7.1f} s  {stage.status}" for stage in self.stages]
        return "\n".join([*lines, f"  {'in all':<{width}}  {self.seconds:7.1f} s", "", self.stages[-1].message])


def run(
    recipe: str,
    out: str | None = None,
    inputs: dict[str, str | None] | None = None,
    stages: tuple[str, ...] = (),
    fresh: bool = False,
) -> RecipeResult:
    """Run a recipe: several commands in order; done ones are skipped, interrupted ones continue.

    Args:
        recipe: a YAML file, or the name of a recipe that comes with glassworks (quickstart, tour).
        out: folder of the run; a folder below it for every stage. Default: runs/ and the recipe's name.
        inputs: values for the recipe's inputs, as --inputs.model NAME; null leaves one out.
        stages: run only these stages (and skip the rest); what they refer to must be done already.
        fresh: run every stage again, also those that are intact.
    """
    plan = read_recipe(recipe)
    folder = Path(out or Path("runs") / plan.source.stem)
    known = _known(plan, folder, inputs or {})
    if unknown := [name for name in stages if name not in {stage.name for stage in plan.stages}]:
        raise UnknownName("stage", unknown[0], [stage.name for stage in plan.stages], place=recipe)
    runner = _Runner(plan, folder, known, fresh)
    runner.check_new_requests()
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder)
    began = time.perf_counter()
    try:
        results = [runner.run_stage(stage) for stage in plan.stages if not stages or stage.name in stages]
    except StageFailed:
        if is_new and not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder)  # the first stage was refused before it wrote anything
        raise
    finally:
        release_lock(folder, lock)
    return RecipeResult(str(folder), tuple(results), time.perf_counter() - began)


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with glassworks."""
    folder = Path(str(files("glassworks") / "recipes"))
    return {file.stem: file for file in sorted(folder.rglob("*.yaml"))}


def read_recipe(recipe: str) -> Recipe:
    """Parse and check a recipe: fields, verbs, references. Raises RecipeError, UnknownName or DataNotFound."""
    source = shipped_recipes().get(recipe, Path(recipe))
    if not source.exists():
        names = ", ".join(shipped_recipes())
        raise DataNotFound("no such recipe file", place=recipe, remedy=f"Recipes that come with glassworks: {names}.")
    content = read_yaml(source)
    place = str(source)
    if unknown := set(content) - {"name", "summary", "inputs", "stages"}:
        raise UnknownName("recipe field", unknown.pop(), ["name", "summary", "inputs", "stages"], place=place)
    if not isinstance(content.get("stages"), list) or not content["stages"]:
        raise RecipeError("expected a list under 'stages'", place=place, remedy="See docs/run.md for an example.")
    stages: dict[str, Stage] = {}
    for number, entry in enumerate(content["stages"], start=1):
        stage = _stage(entry, f"{place}: stage {number}")
        if stage.name in stages or stage.name in {"inputs", "run"}:
            raise RecipeError(f"the stage name '{stage.name}' is taken", place=place, remedy="Choose another name.")
        stages[stage.name] = stage
    inputs = content.get("inputs") or {}
    check_references({name: stage.options for name, stage in stages.items()}, inputs, place=place)
    return Recipe(source, inputs, tuple(stages.values()))


def check_recipe(plan: Recipe, folder: Path, inputs: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """Stage -> the arguments its verb will be called with, when the recipe runs in ``folder`` with these inputs.

    Raises UnknownName or OptionError, naming the stage, where a verb does not accept them.
    """
    known = _known(plan, folder, inputs)
    return {stage.name: _arguments(plan, stage, known) for stage in plan.stages}


def _known(plan: Recipe, folder: Path, inputs: Mapping[str, str | None]) -> dict[str, Any]:
    """What the recipe's references stand for."""
    if unknown := [name for name in inputs if name not in plan.inputs]:
        raise UnknownName("input", unknown[0], plan.inputs, place=str(plan.source))
    known: dict[str, Any] = {f"inputs.{name}": inputs.get(name, default) for name, default in plan.inputs.items()}
    return known | {"run.out": str(folder)} | {f"{stage.name}.out": str(folder / stage.name) for stage in plan.stages}


def _stage(entry: object, place: str) -> Stage:
    if not isinstance(entry, dict) or not {"name", "verb"} <= entry.keys():
        raise RecipeError("expected a mapping with 'name' and 'verb'", place=place)
    if unknown := set(entry) - _STAGE_FIELDS:
        raise UnknownName("stage field", str(unknown.pop()), _STAGE_FIELDS, place=place)
    if entry["verb"] not in VERBS or entry["verb"] == "run":
        raise UnknownName("verb", str(entry["verb"]), set(VERBS) - {"run"}, place=f"{place} ('{entry['name']}')")
    options = entry.get("with") or {}
    if not isinstance(options, dict) or "out" in options:
        raise RecipeError("'with' is a mapping of the verb's options, without 'out'", place=place)
    return Stage(str(entry["name"]), entry["verb"], options, str(entry.get("launcher") or ""))


def _arguments(plan: Recipe, stage: Stage, known: Mapping[str, Any]) -> dict[str, Any]:
    function = load_verb(stage.verb)
    options = substitute(stage.options, known)
    if "out" in signature(function).parameters:
        options = options | {"out": known[f"{stage.name}.out"]}
    return arguments_from_mapping(stage.verb, function, options, place=f"{plan.source.name}: stage '{stage.name}'")


class _Runner:
    """Runs the stages of one recipe in one folder and keeps its record, ``recipe.json``."""

    def __init__(self, plan: Recipe, folder: Path, known: Mapping[str, Any], fresh: bool) -> None:
        self.plan, self.folder, self.known, self.fresh = plan, folder, known, fresh
        self.keys: dict[str, str] = {}
        self.parsed: dict[str, dict[str, Any]] = {}
        record = folder / RECORD
        self.record: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}

    def check_new_requests(self) -> None:
        """Have every stage's options checked by its verb, but those that were checked and are on record.

        Importing the verbs takes far longer than finding that every stage is intact.
        """
        for stage in self.plan.stages:
            if self.record.get(stage.name, {}).get("request") != self._request(stage):
                self._arguments(stage)

    def _arguments(self, stage: Stage) -> dict[str, Any]:
        if stage.name not in self.parsed:
            self.parsed[stage.name] = _arguments(self.plan, stage, self.known)
        return self.parsed[stage.name]

    def _request(self, stage: Stage) -> str:
        """Hash of what a stage's options are parsed from: as written, and the source that holds the signature."""
        written = json.dumps([stage.verb, substitute(stage.options, self.known), __version__], default=str)
        return hashlib.sha256(f"{written}{path_sha(source_file(stage.verb))}".encode()).hexdigest()[:16]

    def _options(self, stage: Stage) -> dict[str, Any]:
        """The checked options as plain values, defaults included, from the record where that is up to date."""
        earlier = self.record.get(stage.name, {})
        if stage.name not in self.parsed and earlier.get("request") == self._request(stage):
            return dict(earlier["options"])
        return {name: as_result(value) for name, value in self._arguments(stage).items() if name != "out"}

    def run_stage(self, stage: Stage) -> StageResult:
        """Run a stage, or skip it where nothing changed."""
        path, position = self.folder / stage.name, self.plan.stages.index(stage) + 1
        key = self._key(stage)
        earlier = self.record.get(stage.name, {})
        label = f"[{position}/{len(self.plan.stages)}] {stage.name}"
        if earlier.get("key") == key and not self.fresh and is_intact(path):
            print(f"{label}: intact, skipped", flush=True)
            return StageResult(stage.name, stage.verb, "intact", earlier["seconds"], earlier["message"])
        is_stale = self.fresh or earlier.get("key") != key or earlier.get("status") == "done"
        # Only a run folder is removed: one without a manifest is somebody's own, which the verb will refuse.
        if is_stale and read_manifest(path) is not None:
            shutil.rmtree(path)
        print(f"{label}: glassworks {stage.verb}", flush=True)
        self._remember(stage, key=key, status="started", seconds=0.0, message="")
        began = time.perf_counter()
        message = self._call(stage, path)
        seconds = time.perf_counter() - began
        self._remember(stage, key=key, status="done", seconds=round(seconds, 3), message=message)
        if stage is not self.plan.stages[-1]:  # the last one's message ends the recipe
            print(textwrap.indent(message, "    "))
        print(f"{label}: done in {seconds:.1f} s", flush=True)
        return StageResult(stage.name, stage.verb, "done", seconds, message)

    def _remember(self, stage: Stage, **entry: object) -> None:
        own = {"verb": stage.verb, "request": self._request(stage), "options": self._options(stage)}
        self.record[stage.name] = own | entry
        write_json(self.folder / RECORD, self.record)

    def _key(self, stage: Stage) -> str:
        """What the stage's result depends on: its verb, options, input files, and the stages that it refers to."""
        needed = {reference.partition(".")[0] for reference in find_references(stage.options)}
        before = self.plan.stages[: self.plan.stages.index(stage)]
        upstream = [s.name for s in before if s.name in needed or "run" in needed]
        parts = {
            "verb": stage.verb,
            "launcher": stage.launcher,
            "version": __version__,
            "options": self._options(stage),
            "files": self._input_files(stage),
            "upstream": {name: self.keys.get(name) or self.record.get(name, {}).get("key") for name in upstream},
        }
        key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.keys[stage.name] = key
        return key

    def _input_files(self, stage: Stage) -> dict[str, str]:
        """Option -> hash of the file or folder that it names, where that is not another stage's."""
        found = {}
        for name, value in self._options(stage).items():
            if isinstance(value, str) and 0 < len(value) < 1024 and Path(value).exists():
                path = Path(value).resolve()
                if not path.is_relative_to(self.folder.resolve()):
                    found[name] = path_sha(path, quick=True)
        return found

    def _call(self, stage: Stage, path: Path) -> str:
        if stage.launcher:
            return self._launch(stage, path)
        function, arguments = load_verb(stage.verb), self._arguments(stage)
        token = command_name.set(stage.verb)
        try:
            if get_type_hints(function).get("return") is Run:
                result = function(**arguments)
            else:
                with Run.start(path, function, arguments) as holder:
                    result = function(**arguments)
                    write_json(holder.path / "result.json", as_result(result))
                    if hasattr(result, "as_sample"):
                        write_text(holder.path / "samples.jsonl", json.dumps(result.as_sample()) + "\n")
        except UserError as error:
            raise StageFailed(str(error), place=f"stage '{stage.name}'") from error
        finally:
            command_name.reset(token)
        return str(result.summary()) if hasattr(result, "summary") else ""

    def _launch(self, stage: Stage, path: Path) -> str:
        """Start the verb under a launcher such as ``accelerate launch``, as a process group of its own."""
        config = self.folder / f".{stage.name}.yaml"
        write_json(config, as_result(self._arguments(stage)))
        words = [*shlex.split(stage.launcher), "-m", "glassworks", *stage.verb.split(), "--config", str(config)]
        if words[0] == "accelerate":
            words[:1] = [sys.executable, "-m", "accelerate.commands.accelerate_cli"]
        finished = subprocess.run(words, check=False)
        manifest = read_manifest(path)
        if finished.returncode != 0 or manifest is None or manifest["status"] != "finished":
            raise StageFailed(
                f"the launcher ended with exit code {finished.returncode}; its message is above",
                place=f"stage '{stage.name}'",
            )
        config.unlink(missing_ok=True)
        return f"Run folder: {path}"
