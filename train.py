"""Train S2LD from the command line: `s2ld train`; python train.py --help."""

import sys

from s2ld.cli.train.train import script

if __name__ == "__main__":
    sys.exit(script())
