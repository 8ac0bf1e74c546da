"""The sections of the speed benchmark, one a file: a pair, many pairs, large images, ONNX, the first match.

`run.py` lists them and runs one of them in a process of its own.
"""
