"""Runs made small, or into other formats."""
