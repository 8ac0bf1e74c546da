"""A sparse model to training data in MegaDepth's form: undistortion, depth, pairs, index. Start with `build.py`."""
