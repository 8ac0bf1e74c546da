"""Pictures: matches over photographs, curves, depth, models."""
