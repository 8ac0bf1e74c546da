"""Match image pairs from the command line: `s2ld match`; python demo_match.py --help."""

import sys

from s2ld.cli.match.demo import script

if __name__ == "__main__":
    sys.exit(script())
