"""Loss and validation of a training against the pairs seen: python scripts/learning_curves.py --help."""

import sys

from s2ld.cli.train.learning_curves import script

if __name__ == "__main__":
    sys.exit(script())
