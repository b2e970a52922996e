"""The tree of errors: drawn as it is, every message with place, problem and remedy, nearest names given."""

import inspect
import re

import pytest

from glassworks import errors
from glassworks.errors import (
    MissingDependency,
    OptionError,
    PromptTooLong,
    UnknownName,
    Unsupported,
    UserError,
    check_at_least,
)

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]


def test_the_drawing_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)\b", line.removeprefix("    ")):
            indent = "├" in line or "└" in line
            depth = (len(match[1]) // 4 + 1) if indent else 0
            path[depth:] = [match[2]]
            if depth:
                drawn[match[2]] = path[depth - 1]
    actual = {item.__name__: item.__bases__[0].__name__ for item in CLASSES if item is not UserError}
    assert drawn == actual


def test_message_is_place_problem_remedy() -> None:
    error = UserError("'rejected' is empty", place="pairs.jsonl:418", remedy="Drop that row.")
    assert str(error) == "pairs.jsonl:418: 'rejected' is empty. Drop that row."
    assert (error.place, error.problem, error.remedy) == ("pairs.jsonl:418", "'rejected' is empty", "Drop that row.")
    assert str(UserError("just this")) == "just this"
    assert isinstance(error, ValueError)


def test_nearest_names_or_all_of_them() -> None:
    assert str(UnknownName("loss", "simpoo", ["simpo", "dpo"])) == "unknown loss 'simpoo'. Did you mean simpo?"
    assert str(UnknownName("loss", "xyz", ["simpo", "dpo"])) == "unknown loss 'xyz'. Known: dpo, simpo."
    assert issubclass(UnknownName, OptionError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MissingDependency("ray", "scale"), "pip install 'glassworks[scale]'"),
        (Unsupported("phrases", "Milvus"), "Milvus does not support phrases"),
        (PromptTooLong(3, 9000, 8192), "9000"),
    ],
)
def test_composed_messages(error: UserError, text: str) -> None:
    assert text in str(error)


def test_the_first_value_below_its_least_is_named() -> None:
    check_at_least(1, steps=1, limit=None)
    check_at_least(0, rate=0.0)
    with pytest.raises(OptionError, match=r"^size: expected at least 1, received 0"):
        check_at_least(1, steps=2, size=0, rows=-1)
    with pytest.raises(OptionError, match=r"pruning\.rate: expected at least 0, received nan"):
        check_at_least(0, **{"pruning.rate": float("nan")})
