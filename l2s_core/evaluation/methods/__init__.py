"""Methods of making a benchmark's images."""
