"""From photographs to cameras, points and training data, one room a step: `photos/`, `matching/`, `mapping/`,
`depth/`, `dataset/`. Start with `matching/match_folder.py` or `dataset/build.py`.
"""
