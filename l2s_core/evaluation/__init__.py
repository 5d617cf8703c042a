"""Judging images: detection, GenEval's position rule, rates with intervals."""
