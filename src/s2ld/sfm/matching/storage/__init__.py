"""What the matching of a folder keeps on the disk, so that its memory does not grow with the folder.

`matches.py`: the journal of pairs; `features.py`: the cache of features; `tables.py`: keypoints with an identity.
"""
