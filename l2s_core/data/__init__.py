"""Sources of scenes with true relations, split by image."""
