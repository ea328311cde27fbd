"""Moves messages and calls between members; knows nothing of roles."""
