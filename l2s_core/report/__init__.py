"""What a reader sees: figures, picture grids, one HTML page."""
