"""Cameras and points from the photographs of a folder: python scripts/reconstruct.py --help."""

import sys

from s2ld.cli.sfm.reconstruct import script

if __name__ == "__main__":
    sys.exit(script())
