"""Run folders: what a verb did, with which options, and what came out, so that it can be repeated and resumed.

A run folder holds ``config.yaml`` (complete; the verb runs again from it), ``metrics.jsonl``, ``evidence.jsonl``,
the artefacts, and ``run.json``: the manifest, whose status is "finished" only after every output is on disk with its
hash. One process at a time works in a folder. Files appear under their final name whole or not at all.
Knows no verb: a verb hands over itself and its arguments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import filelock
import yaml

from glassworks.errors import RunError, RunLocked, RunMismatch, UserError
from glassworks.foundations.evidence import EVIDENCE_FILE, Evidence
from glassworks.foundations.files import (
    files_below,
    is_out_of_space,
    out_of_space,
    path_sha,
    remove_partial,
    write_json,
    write_text,
)

MANIFEST, CONFIG, METRICS = "run.json", "config.yaml", "metrics.jsonl"
LOCK, HOLDER = ".lock", ".lock.holder"
BOOKKEEPING = frozenset({MANIFEST, LOCK, HOLDER})

command_name: ContextVar[str] = ContextVar("command_name", default="")
"""The command that the running verb was called by ("index", "circuits find"); empty when called from Python."""


def now() -> str:
    """The time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def plain(value: object) -> Any:
    """A value as YAML and JSON can hold it: dataclasses become mappings, paths text, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def as_result(result: object) -> Any:
    """What a verb returned, as JSON can hold it; a run becomes its folder and its evidence."""
    if isinstance(result, Run):
        return {"run": str(result.path), "verb": result.verb, "evidence": plain(result.evidence)}
    return plain(result)


def is_first_process() -> bool:
    """Whether this process writes: alone, or rank 0 of those that torchrun or `accelerate launch` started."""
    return int(os.environ.get("RANK", "0")) == 0


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a run folder, or None where there is none or it cannot be read."""
    try:
        manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return manifest if isinstance(manifest, dict) else None


def is_intact(folder: Path) -> bool:
    """Whether a run finished and every output it listed is still there with the same bytes."""
    folder, manifest = Path(folder), read_manifest(folder)
    if manifest is None or manifest.get("status") != "finished":
        return False
    outputs: dict[str, dict[str, Any]] = manifest.get("outputs", {})
    for name, entry in outputs.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != entry["size"] or path_sha(file) != entry["sha256"]:
            return False
    return True


def machine() -> dict[str, object]:
    """What the figures of a run were measured on: system, processor count, Python and torch versions."""
    versions = {}
    for package in ("torch", "transformers"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


class Run:
    """A verb at work in its folder; a context manager that ends with a finished manifest or a clean failure.

    path: the folder. verb: the command or function name. config: the arguments, as written to ``config.yaml``.
    """

    def __init__(
        self, path: Path, verb: str, config: dict[str, Any], lock: filelock.BaseFileLock | None,
        made: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        self.path, self.verb, self.config = path, verb, config
        self._lock, self._made = lock, made
        self._evidence: list[Evidence] = []
        self._started, self._clock = now(), time.perf_counter()
        self._metrics: IO[str] | None = None

    @classmethod
    def start(cls, out: str | Path, verb: Callable[..., object], arguments: dict[str, object]) -> Run:
        """Take the folder ``out`` for a call of ``verb`` with ``arguments`` (its ``locals()`` on entry).

        Raises RunLocked where another process works there, RunMismatch where the folder holds something else, or
        a run with other options, and RunError where nothing can be written. A folder of an interrupted or finished
        run with the same options is taken up again.
        Of several processes of one launch only the first takes the folder and writes; the others' runs write nothing.
        """
        path, name = Path(out), command_name.get() or verb.__name__.replace("_", "-")
        config = {key: plain(value) for key, value in arguments.items() if key != "out"}
        if "out" in inspect.signature(verb).parameters:
            config["out"] = str(out)
        if not is_first_process():
            return cls(path, name, config, None)
        if path.exists() and not path.is_dir():
            raise RunMismatch("expected a folder, found a file", place=str(path), remedy="Choose another --out.")
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        _refuse_other_run(path, name, config)
        with _no_space_told(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
                lock = take_lock(path)
            except OSError as error:
                if is_out_of_space(error):
                    raise
                problem = f"no run can be kept there ({error.strerror})"
                raise RunError(problem, place=str(path), remedy="Choose another --out.") from error
            remove_partial(path)
            run = cls(path, name, config, lock, made)
            try:
                write_text(path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
                run._write_manifest("running")
            except BaseException:
                run._give_up()
                raise
        return run

    def log(self, **metrics: object) -> None:
        """Append one line to ``metrics.jsonl``; numbers that are not finite are written as null."""
        if self._lock is None:
            return
        if self._metrics is None:
            self._metrics = (self.path / METRICS).open("a", encoding="utf-8")
        line = {key: None if isinstance(x, float) and x - x != 0 else x for key, x in metrics.items()}
        self._metrics.write(json.dumps({**line, "time": now()}, default=str, allow_nan=False) + "\n")
        self._metrics.flush()

    def rewind_log(self, step: int) -> None:
        """Drop the lines of ``metrics.jsonl`` after ``step``, so that a resumed run logs each step once."""
        file = self.path / METRICS
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if file.exists():
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line).get("step", 0) <= step]
            write_text(file, "".join(kept))

    def record(self, *evidence: Evidence) -> None:
        """Add measured claims to ``evidence.jsonl``; the file is rewritten whole, so no half line is ever left."""
        command = shlex.join(["glassworks", *self.verb.split(), "--config", str(self.path / CONFIG)])
        for item in evidence:
            filled = dataclasses.replace(
                item, command=item.command or command, created=item.created or now(), id=item.id or item.key
            )
            self._evidence.append(filled)
        if self._lock is None:
            return
        write_text(self.path / EVIDENCE_FILE, "".join(item.to_json() + "\n" for item in self._evidence))

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What this process has recorded so far."""
        return tuple(self._evidence)

    def summary(self) -> str:
        """What a person is told at the end: each claim with its figure, interval and n, and where the run lies."""
        lines = []
        for item in self._evidence:
            figure = _figure(item.value) + (f" {item.unit}" if item.unit else "")
            if item.interval is not None:
                figure += f" [{_figure(item.interval[0])}, {_figure(item.interval[1])}]"
            if item.n is not None:
                figure += f", n = {item.n}"
            lines.append(f"{item.claim}: {figure}")
        return "\n".join([*lines, f"Run folder: {self.path}"])

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        if self._metrics is not None:
            with contextlib.suppress(OSError):
                self._metrics.close()
        if error is None:
            with _no_space_told(self.path):
                self._write_manifest("finished")
            self._release()
            return
        self._give_up(keep=not isinstance(error, UserError))
        if is_out_of_space(error):
            raise out_of_space(self.path) from error

    def _write_manifest(self, status: str) -> None:
        outputs = {}
        if status == "finished":
            for name, file in files_below(self.path, skip=BOOKKEEPING):
                outputs[name] = {"size": file.stat().st_size, "sha256": path_sha(file)}
        manifest = {
            "verb": self.verb,
            "status": status,
            "started": self._started,
            "finished": now() if status == "finished" else None,
            "seconds": round(time.perf_counter() - self._clock, 3),
            "version": version("glassworks"),
            "machine": machine(),
            "outputs": outputs,
        }
        write_json(self.path / MANIFEST, manifest)

    def _give_up(self, keep: bool = False) -> None:
        """Leave the folder resumable, or remove what this call made where it wrote nothing but its own records."""
        self._release()
        only_records = {name for name, _ in files_below(self.path, skip=BOOKKEEPING)} <= {CONFIG}
        if self._made and only_records and not keep:
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):  # another run may have begun beside it
                for parent in self._made[1:]:
                    parent.rmdir()

    def _release(self) -> None:
        if self._lock is not None:
            release_lock(self.path, self._lock)


def _figure(value: float) -> str:
    """A number with four significant digits, whole ones in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"


def take_lock(path: Path) -> filelock.BaseFileLock:
    """Make this process the only one that works in a folder. Raises RunLocked, naming the holder."""
    lock = filelock.FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        holder = (path / HOLDER).read_text() if (path / HOLDER).exists() else "another process"
        raise RunLocked(
            f"{holder} is working in this run folder",
            place=str(path),
            remedy="Wait for it or choose another --out.",
        ) from None
    (path / HOLDER).write_text(f"process {os.getpid()} on {platform.node()} (since {now()})")
    return lock


def release_lock(path: Path, lock: filelock.BaseFileLock) -> None:
    """Let other processes work in the folder again."""
    (path / HOLDER).unlink(missing_ok=True)
    lock.release()


def _refuse_other_run(path: Path, verb: str, config: dict[str, Any]) -> None:
    manifest = read_manifest(path)
    if manifest is None:
        strangers = [file.name for file in path.iterdir() if not file.name.startswith(".")] if path.exists() else []
        if strangers and strangers != [CONFIG]:
            raise RunMismatch(
                f"the folder is not a run folder; it holds '{strangers[0]}'",
                place=str(path),
                remedy="Choose another --out, or an empty folder.",
            )
        return
    if manifest.get("verb") != verb:
        raise RunMismatch(
            f"the folder holds a run of '{manifest.get('verb')}', not of '{verb}'",
            place=str(path),
            remedy="Choose another --out.",
        )
    earlier = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")) if (path / CONFIG).exists() else config
    changed = [key for key in config if earlier.get(key) != config[key] and key != "out"]
    if changed:
        key = changed[0]
        raise RunMismatch(
            f"the run there has {key} = {earlier.get(key)!r}, this call has {key} = {config[key]!r}",
            place=str(path),
            remedy="Choose another --out, or delete the folder.",
        )


@contextlib.contextmanager
def _no_space_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        if is_out_of_space(error):
            raise out_of_space(path) from error
        raise
