"""The consensus stage trained alone: labels, a cache of candidates, its loss. Start with `making.py`."""
