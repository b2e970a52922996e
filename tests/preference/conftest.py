"""Fixtures of the preference tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cases.judge_server import judge_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("GLASSWORKS_API_KEY", raising=False)
    with judge_server() as address:
        yield address
