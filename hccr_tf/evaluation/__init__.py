"""Accuracy and cost of networks, differences between them, and their plots."""
