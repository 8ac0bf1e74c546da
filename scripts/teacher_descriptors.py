"""Describe clean photographs by another network: python scripts/teacher_descriptors.py --help."""

import sys

from s2ld.cli.train.teacher_descriptors import script

if __name__ == "__main__":
    sys.exit(script())
