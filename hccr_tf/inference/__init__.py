"""Prediction: five crops of a split into a logits file, and the fusion of such files."""
