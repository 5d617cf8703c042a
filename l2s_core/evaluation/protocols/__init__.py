"""Benchmarks: their prompts and their rules."""
