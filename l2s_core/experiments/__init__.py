"""Experiments over runs: sweeps, ablations, regression, evidence."""
