"""Test-wide settings: no network, one thread a process, no user caches."""

import os
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import pytest
import torch

torch.set_num_threads(1)

# A GPU, a combination that transformers itself refuses, and large peer libraries that adapters are tried against.
MAY_SKIP = (
    "no CUDA device",
    "transformers refuses it",
    "llama-index-core is not installed",
    "haystack-ai is not installed",
    "no copy of",
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def sample_verbs() -> Iterator[None]:
    """The verbs `count` and `add-up` of cases/sample_verbs.py, for the length of a test."""
    from cases import sample_verbs as module

    from glassworks.cli import verbs

    before = dict(verbs.VERBS)
    module.register()
    yield
    verbs.VERBS.clear()
    verbs.VERBS.update(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu skip, with the reason, where there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With GLASSWORKS_REQUIRE_ALL=1, as in CI, a test that skipped for want of a package or browser is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("GLASSWORKS_REQUIRE_ALL") != "1":
        return
    reasons = {report.nodeid: report.longrepr[2] for report in reporter.stats.get("skipped", [])}
    missed = {test: reason for test, reason in reasons.items() if not any(ok in reason for ok in MAY_SKIP)}
    for test, reason in missed.items():
        reporter.write_line(f"SKIPPED BUT REQUIRED {test}: {reason}", red=True)
    if missed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
