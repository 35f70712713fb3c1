"""Moments, standardisation and symmetric solves shared by probes and metrics."""
