"""Commands around training: `train.py`, variants side by side (`ablate.py`), curves, a teacher's descriptors."""
