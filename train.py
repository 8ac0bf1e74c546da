"""Train S2LD from the command line: `s2ld train`; python train.py --help."""

import sys

from s2ld.training.loop.peers import follow_first

if __name__ == "__main__":
    follow_first()  # the next line takes seconds
    from s2ld.cli.train.train import script

    sys.exit(script())
