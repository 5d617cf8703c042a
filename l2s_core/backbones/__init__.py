"""Adapters that give every text-to-image model the same few methods."""
