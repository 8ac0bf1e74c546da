"""Cameras and points by COLMAP, and models of other programs read. Start with `pipeline.py`."""
