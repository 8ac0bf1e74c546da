"""Which pairs a scene has: index files, the unpickler that executes nothing, layouts, overlap, splits, their order.

Start with `files.py`.
"""
