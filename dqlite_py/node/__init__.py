"""Turns the pure core into a running replica."""
