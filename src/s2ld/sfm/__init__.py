"""From photographs and matches to cameras and points by COLMAP's mapper, and from these to training data."""
