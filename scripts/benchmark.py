"""Time and memory of our networks beside kornia's LoFTR: python scripts/benchmark.py --help."""

import sys

from s2ld.cli.benchmarks.speed import script

if __name__ == "__main__":
    sys.exit(script())
