"""Write synthetic scenes in MegaDepth's form: python scripts/write_synthetic.py --help."""

import sys

from s2ld.cli.data.write_synthetic import script

if __name__ == "__main__":
    sys.exit(script())
