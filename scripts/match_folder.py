"""Match the photographs of a folder for hloc and COLMAP: python scripts/match_folder.py --help."""

import sys

from s2ld.cli.match.folder import script

if __name__ == "__main__":
    sys.exit(script())
