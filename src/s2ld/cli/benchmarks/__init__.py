"""Commands that measure: `speed.py` for ours beside LoFTR, `matchers.py` for the ladder of matchers."""
