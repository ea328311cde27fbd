"""Whole clusters from one seed under every fault at once: ``python -m tests.simulation``."""
