"""Check the files that a run would read: python scripts/check_data.py --help."""

import sys

from s2ld.cli.data.check import script

if __name__ == "__main__":
    sys.exit(script())
