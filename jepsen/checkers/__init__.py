"""Checkers: each decides whether a history keeps one promise of the store."""
