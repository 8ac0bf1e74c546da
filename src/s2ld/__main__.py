"""`python -m s2ld`: the command `s2ld`."""

import sys

from s2ld.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
