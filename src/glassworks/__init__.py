"""glassworks takes an open language model from training to a trustworthy deployment, and shows the evidence."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The verbs (``glassworks.index``, ``glassworks.ask``, ...), imported when they are first used."""
    from glassworks.cli.verbs import VERBS, function_name, load_verb

    for command in VERBS:
        if function_name(command) == name:
            return load_verb(command)
    raise AttributeError(f"module 'glassworks' has no attribute '{name}'")


def __dir__() -> list[str]:
    from glassworks.cli.verbs import VERBS, function_name

    return sorted({*globals(), *(function_name(command) for command in VERBS)})
