"""Train S2LD from the command line: python train.py --help."""

import sys

from s2ld.cli.train.train import script

if __name__ == "__main__":
    sys.exit(script())
