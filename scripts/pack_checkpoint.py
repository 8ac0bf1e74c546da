"""Weights and states of a training in 16 bits and in parts: python scripts/pack_checkpoint.py --help."""

import sys

from s2ld.cli.pack_checkpoint import script

if __name__ == "__main__":
    sys.exit(script())
