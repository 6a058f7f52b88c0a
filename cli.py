"""`python cli.py …` is the same program as the installed command `mde …`."""

import sys

from mde.cli import main

if __name__ == "__main__":
    sys.exit(main())
