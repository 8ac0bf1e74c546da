"""Measure the training data's speed beside the trainer's: python scripts/benchmark_data.py --help."""

import sys

from s2ld.cli.benchmarks.data import script

if __name__ == "__main__":
    sys.exit(script())
