"""What a run needs and costs, known before it is run."""
