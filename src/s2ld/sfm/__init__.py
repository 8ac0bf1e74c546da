"""From photographs to cameras, points and training data, one room a step: `photos/`, `matching/`, `mapping/`,
`depth/`, `dataset/`, and `localize/` for photographs that are not in a model. Start with
`matching/match_folder.py` or `dataset/build.py`.
"""
