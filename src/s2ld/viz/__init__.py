"""Pictures: matches over photographs (`matches.py`, the first to read), curves, depth, models, tracks in videos."""
