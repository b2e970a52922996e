"""Which definitions does a source file hold?

Python: the top-level functions and classes, decorators included, by its own parser. Any other language, and Python
that does not parse: the whole file, without sections. The text is the decoded file, so offsets are those of the file.
"""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

from glassworks.retrieval.passages import Section
from glassworks.retrieval.text_files import Extracted, decode, line_starts

LANGUAGES = {
    ".py": "Python", ".pyi": "Python", ".js": "JavaScript", ".mjs": "JavaScript", ".jsx": "JavaScript",
    ".ts": "TypeScript", ".tsx": "TypeScript", ".java": "Java", ".kt": "Kotlin", ".scala": "Scala", ".go": "Go",
    ".rs": "Rust", ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".hpp": "C++", ".cu": "CUDA", ".cs": "C#",
    ".swift": "Swift", ".rb": "Ruby", ".php": "PHP", ".pl": "Perl", ".lua": "Lua", ".r": "R", ".jl": "Julia",
    ".hs": "Haskell", ".ml": "OCaml", ".sql": "SQL", ".sh": "shell", ".lisp": "Lisp", ".el": "Lisp",
}  # fmt: skip


def read_source(path: Path) -> Extracted:
    """A source file; the title is its name."""
    text, language = decode(path), LANGUAGES[path.suffix.lower()]
    sections = _python_sections(text) if language == "Python" else ()
    return Extracted(text, path.name, sections, {"language": language})


def _python_sections(text: str) -> tuple[Section, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the file's own bad escapes
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    starts = line_starts(text)
    sections = []
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            last = node.end_lineno or node.lineno
            sections.append(Section(node.name, starts[first - 1], starts[min(last, len(starts) - 1)]))
    return tuple(sections)
