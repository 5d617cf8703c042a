"""The classifier that reads a relation from the attention maps of two phrases."""
