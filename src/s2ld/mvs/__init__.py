"""Depth maps of posed images: plane-sweep stereo in torch, its filters, and COLMAP's own dense maps."""
