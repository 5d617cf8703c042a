"""Attention maps on disk: typed Parquet shards, written atomically, read as a stream."""
