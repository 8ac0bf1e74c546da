"""What a prediction costs, given the targets: `targets.py` first, then `total.py`, which adds the terms up."""
