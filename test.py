"""Evaluate S2LD from the command line: python test.py --help."""

import sys

from s2ld.cli.evaluate.test import script

if __name__ == "__main__":
    sys.exit(script())
