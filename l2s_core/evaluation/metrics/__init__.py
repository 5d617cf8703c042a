"""What is measured of images beside the benchmark's own score."""
