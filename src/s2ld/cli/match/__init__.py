"""Commands that match photographs: pairs (`demo.py`), a folder (`folder.py`), the frames of a video (`track.py`).

`options.py` holds the arguments by which a command takes any matcher, `output.py` the files of matches.
"""
