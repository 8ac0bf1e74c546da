"""What makes the network faster or smaller and leaves its results alone; each has a slow form that tests compare.

`inference.py` shows which of them a matcher uses.
"""
