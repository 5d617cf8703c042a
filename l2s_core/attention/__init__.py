"""Reading cross-attention: which layers, what is recorded, how maps are pooled."""
