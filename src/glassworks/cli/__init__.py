"""The command line: a table of verbs, a parser made from their signatures, and the recipe runner."""

from glassworks.cli.main import main

__all__ = ["main"]
