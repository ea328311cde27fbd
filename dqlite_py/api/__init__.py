"""The edges: decode, call, encode."""
