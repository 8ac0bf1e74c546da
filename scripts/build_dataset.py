"""Make training data of photographs: python scripts/build_dataset.py --help."""

import sys

from s2ld.cli.sfm.build_dataset import script

if __name__ == "__main__":
    sys.exit(script())
