"""Compare two reconstructions: python scripts/compare_scenes.py --help."""

import sys

from s2ld.cli.sfm.compare_scenes import script

if __name__ == "__main__":
    sys.exit(script())
