"""Judges: models that find objects in images."""
