"""Where pairs come from: photographs, depth, rendered scenes, and the Lightning DataModule that mixes them.

`images/` reads and changes pictures, `index/` says which pairs there are, `sources/` and `synthetic/` make samples
(`sample.py`). Start with `datamodule.py`.
"""
