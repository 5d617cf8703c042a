"""Prompts: everyday sentences to relations and spans, and spans to tokens."""
