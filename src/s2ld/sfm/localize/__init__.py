"""Where a photograph was taken, by the model that `s2ld reconstruct` made of a place. Start with `localizer.py`."""
