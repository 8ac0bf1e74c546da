"""Compare SIFT and S2LD by the same mapper: python scripts/benchmark_sfm.py --help."""

import sys

from s2ld.cli.benchmarks.sfm import script

if __name__ == "__main__":
    sys.exit(script())
