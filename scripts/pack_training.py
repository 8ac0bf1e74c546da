"""Training data in archives for another machine: python scripts/pack_training.py --help."""

import sys

from s2ld.cli.pack_training import script

if __name__ == "__main__":
    sys.exit(script())
