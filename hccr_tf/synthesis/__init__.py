"""Handwriting drawn from stroke centre lines."""
