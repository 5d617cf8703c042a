"""The small world that ships with the project: sprites, scenes, captions and the models trained on them."""
