"""Train and compare variants of a configuration: python scripts/ablate.py --help."""

import sys
from pathlib import Path

from s2ld.cli.train.ablate import script

if __name__ == "__main__":
    sys.exit(script(Path(__file__).resolve().parents[1] / "train.py"))
