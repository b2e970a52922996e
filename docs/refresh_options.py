"""Write each verb's --help into its page under docs/, below the heading "Options". Run after changing a signature."""

import os
import sys
from pathlib import Path

from glassworks.cli.parsing import build_parser
from glassworks.cli.verbs import VERBS, load_verb

DOCS = Path(__file__).parent


def page(command: str) -> Path:
    """The page of a command."""
    return DOCS / f"{command.replace(' ', '-')}.md"


def with_options(command: str) -> str:
    """The page's text with the options as they are now."""
    os.environ["COLUMNS"] = "100"
    help_text = build_parser(command, load_verb(command)).format_help().rstrip()
    before = page(command).read_text(encoding="utf-8").partition("\n## Options\n")[0].rstrip()
    return f"{before}\n\n## Options\n\n```\n{help_text}\n```\n"


def main() -> None:
    """Refresh every page."""
    for command in VERBS:
        page(command).write_text(with_options(command), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
