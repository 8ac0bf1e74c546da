"""Commands from photographs to cameras, points and training data: `s2ld reconstruct`, `s2ld build-dataset`,
and `s2ld compare-scenes`, which says how far two reconstructions agree.
"""
