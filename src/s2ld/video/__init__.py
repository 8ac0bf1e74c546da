"""A picture followed through a video: start with `follow.py`, which puts the others one after the other.

`reading.py` gives frames, `sightings.py` matches them, `tracker.py` judges and smooths what was found, `writing.py`
keeps the video and the table.
"""
