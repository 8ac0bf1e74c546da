"""Commands from photographs to cameras, points and training data: `reconstruct.py`, `build_dataset.py`."""
