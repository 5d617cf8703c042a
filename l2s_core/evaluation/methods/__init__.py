"""Ways to make a benchmark's images."""
