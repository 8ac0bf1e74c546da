"""Convert index files to plain arrays: python scripts/convert_index.py --help."""

import sys

from s2ld.cli.data.convert_index import script

if __name__ == "__main__":
    sys.exit(script())
