"""Real server processes: where they live, how they start, and what can be done to them."""
