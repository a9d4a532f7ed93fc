"""Melnyk, You & Li 2018: Melnyk-Net."""
