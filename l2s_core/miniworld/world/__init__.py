"""Scenes of the small world: sprites, layouts, captions."""
