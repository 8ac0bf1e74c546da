"""The method, in the order of the paper; start with `network.py`, which calls the stages one after the other.

`backbones`, `attention` and `detector` make features and keypoints, `sparse_matching` matches over the whole image,
`local_dense` or `correlation` within a window, `consensus/` judges all matches together. `fast/` is what makes it
faster only; `checkpoint` reads and writes weights, `onnx` exports.
"""
