"""Rates with intervals and tests of differences."""
