"""``python -m glassworks``: the same command line as ``glassworks``."""

import sys

from glassworks.cli import main

sys.exit(main())
