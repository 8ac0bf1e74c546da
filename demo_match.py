"""Match image pairs from the command line: python demo_match.py --help."""

import sys

from s2ld.cli.match.demo import main

if __name__ == "__main__":
    sys.exit(main())
