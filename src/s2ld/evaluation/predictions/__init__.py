"""Matching first, measuring later: predictions in one file that a killed run goes on with.

Start with `predict.py`; `cache.py` is the file, `record_files.py` those of other programs.
"""
