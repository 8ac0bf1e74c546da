"""Measure the host memory of a large index: python scripts/benchmark_index.py --help."""

import sys

from s2ld.cli.benchmarks.index import script

if __name__ == "__main__":
    sys.exit(script())
