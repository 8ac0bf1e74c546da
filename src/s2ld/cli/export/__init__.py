"""Commands that write the network in another form: `onnx.py`, and `weights.py` for weights of half the size."""
