"""Faults of a data set, found and ranked before training."""
