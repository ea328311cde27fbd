"""Measures this server side by side with its peers, in interleaved rounds on one machine."""
