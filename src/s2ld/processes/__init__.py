"""Several processes of one command: how many there are, what SLURM says, what happens when one is lost.

Start with `ddp.py`, Lightning's strategy; `peers.py` is how the processes of one machine end together.
"""
