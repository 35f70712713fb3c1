"""Harun et al. 2024, item by item."""
