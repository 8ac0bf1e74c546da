"""Commands from photographs to cameras, points and training data: `reconstruct.py`, `build_dataset.py`,
and `compare_scenes.py`, which says how far two reconstructions agree.
"""
