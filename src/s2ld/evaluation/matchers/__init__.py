"""Any matcher behind one small interface (`interface.py`); `by_name.py` is what `--matcher NAME` means."""
