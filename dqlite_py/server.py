"""Composition root: settings in, running server out."""
