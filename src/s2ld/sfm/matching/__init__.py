"""Pairs of a folder matched, keypoints with an identity over all pairs, and hloc's and COLMAP's files of them.

Start with `match_folder.py`.
"""
