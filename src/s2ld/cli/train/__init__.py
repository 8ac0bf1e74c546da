"""Commands around training: `train.py`, variants side by side (`s2ld ablate`), curves, a teacher's descriptors."""
