"""Arguments in, files and pictures out: each command parses, builds the config and calls the package.

`main.py` is the door, the command `s2ld`; a room for each kind of work; `status.py` says how commands end.
"""
