"""`python -m mde.cli` is `mde`."""

import sys

from mde.cli import main

if __name__ == "__main__":
    sys.exit(main())
