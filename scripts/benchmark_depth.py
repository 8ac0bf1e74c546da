"""Measure our depth maps on a scene that has some: python scripts/benchmark_depth.py --help."""

import sys

from s2ld.cli.benchmarks.depth import script

if __name__ == "__main__":
    sys.exit(script())
