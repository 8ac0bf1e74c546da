"""What is done with a matcher's output: estimators, metrics, the protocol. Start with `evaluate.py`.

`matchers/` puts any matcher behind one interface, `predictions/` keeps what it found, `report/` shows the numbers.
"""
