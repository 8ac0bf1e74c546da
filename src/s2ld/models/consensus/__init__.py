"""Geometry inside the matcher: neighbouring matches judge, add and refine each other.

Start with `stage.py`; `densify.py` and `photometric.py` use the local affine maps of those that it believes.
"""
