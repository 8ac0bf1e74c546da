"""Depth maps by plane sweeps: views, costs, consistency, COLMAP's own maps read. Start with `depth_maps.py`."""
