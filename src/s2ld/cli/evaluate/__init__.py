"""The command that measures: `test.py`, AUC and precision of weights or of another matcher on a set of pairs."""
