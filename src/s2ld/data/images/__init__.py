"""Pictures in: reading, sizes, caches, textures, and the photometric change of training views.

Start with `reading.py`.
"""
