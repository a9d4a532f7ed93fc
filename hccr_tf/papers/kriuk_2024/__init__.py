"""Kriuk & Kriuk 2024: brick networks, fused."""
