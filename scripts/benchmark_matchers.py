"""Measure matchers side by side on posed pairs: python scripts/benchmark_matchers.py --help."""

import sys

from s2ld.cli.benchmarks.matchers import script

if __name__ == "__main__":
    sys.exit(script())
