"""Scripts of our own that come with the package; `SCRIPTS` is their folder."""

from pathlib import Path

SCRIPTS = Path(__file__).parent
