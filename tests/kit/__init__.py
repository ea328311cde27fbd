"""Pieces that tests are built from."""
