"""The house itself: the import law, names, sizes and documentation of every module."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "glassworks"
MODULES = sorted(SOURCE.rglob("*.py"))
SYSTEMS = {"pretraining", "preference", "long_context", "robustness", "circuits", "eliza", "risk"}
MAY_IMPORT_RETRIEVAL = {"pretraining", "robustness", "serve", "cli", "retrieval"}
GENERIC = re.compile(r"(^|_)(utils?|helpers?|misc|common|manager|base)($|_)")


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("glassworks.")}
    return rooms


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_systems_meet_only_by_the_named_doors(file: Path) -> None:
    room = file.relative_to(SOURCE).parts[0]
    others = imported_rooms(file) - {room}
    assert not (room in SYSTEMS and others & SYSTEMS), f"{room} imports another system: {others & SYSTEMS}"
    assert "retrieval" not in others or room in MAY_IMPORT_RETRIEVAL


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_opens_with_its_contract_and_fits_in_one_reading(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module opens with what it answers"
    assert text.count("\n") <= 400, "split it: one idea a module"
    assert not GENERIC.search(file.stem)
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_public_functions_are_documented_and_annotated(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    bodies = [tree.body, *(node.body for node in classes)]
    for node in (node for body in bodies for node in body if isinstance(node, ast.FunctionDef)):
        if node.name.startswith("_") or any("overload" in ast.unparse(mark) for mark in node.decorator_list):
            continue
        assert ast.get_docstring(node), f"{node.name} has no docstring"
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        missing = [a.arg for a in arguments if a.annotation is None and a.arg not in {"self", "cls"}]
        assert not missing, f"{node.name}: {missing} have no type"
        assert node.returns is not None, f"{node.name} has no return type"


def test_nothing_opens_pickles_or_shells() -> None:
    forbidden = re.compile(r"shell=True|os\.system\(|\bpickle\.loads?\(|\beval\(|(?<!def )\bexec\(")
    found = [(file.name, match[0]) for file in MODULES if (match := forbidden.search(file.read_text(encoding="utf-8")))]
    allowed = {"eval("}  # nn.Module.eval
    assert not [entry for entry in found if entry[1] not in allowed]
