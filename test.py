"""Evaluate S2LD from the command line: `s2ld test`; python test.py --help."""

import sys

from s2ld.cli.evaluate.test import script

if __name__ == "__main__":
    sys.exit(script())
