"""Scores of a matcher: predict into a cache, then evaluate the cache."""
