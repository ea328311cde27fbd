"""Leases: who expires when, decided on the leader."""
