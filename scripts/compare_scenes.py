"""Compare two reconstructions: python scripts/compare_scenes.py --help."""

import sys

from s2ld.cli.compare_scenes import script

if __name__ == "__main__":
    sys.exit(script())
