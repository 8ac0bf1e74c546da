"""The sections of `scripts/benchmark.py`, a module each; `sections` lists them."""
