"""Which photographs of a folder can be used, working copies of them, and which show the same place.

Start with `usable.py`.
"""
