"""Commands for data sets: `check.py` before a training, conversion of indices, rendered scenes in MegaDepth's form."""
