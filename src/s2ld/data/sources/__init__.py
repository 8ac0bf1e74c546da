"""Data sets and ways to make pairs, one a file; all are a `PairSource`.

Start with `by_name.py`, which the config's names lead through, then `megadepth.py`.
"""
