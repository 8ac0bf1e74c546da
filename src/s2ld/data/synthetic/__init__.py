"""Synthetic scenes: textured planes, boxes and height fields, ray cast with exact depth and known cameras."""
