"""What a run leaves behind for a human being."""
