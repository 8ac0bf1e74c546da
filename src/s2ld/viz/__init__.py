"""Pictures of what a matcher does."""
