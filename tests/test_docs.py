"""Docs under test: a page a verb with fresh options, a section an error, links that lead somewhere."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

from glassworks import errors
from glassworks.cli.verbs import VERBS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
ERRORS = [name for name, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]


@pytest.mark.parametrize("command", VERBS)
def test_every_verb_has_a_page_with_fresh_options(command: str) -> None:
    refresh = runpy.run_path(str(ROOT / "docs" / "refresh_options.py"))
    page = refresh["page"](command)
    assert page.exists(), f"{page.name} is missing"
    assert page.read_text(encoding="utf-8") == refresh["with_options"](command), "run docs/refresh_options.py"


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_a_section_and_a_place_in_the_tree(name: str) -> None:
    assert f"\n## {name}\n" in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", errors.__doc__ or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_papers_table_names_code_that_exists() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| ") and "---" not in row][1:]
    assert rows
    for row in rows:
        for path in re.findall(r"`((?:src|tests|benchmarks)/[^`]+)`", row):
            assert (ROOT / path).exists(), path
