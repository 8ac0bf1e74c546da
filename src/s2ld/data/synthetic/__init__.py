"""Rendered scenes with exact depth: a scene, its cameras, ray casting, shading, and their files.

Start with `source.py`.
"""
