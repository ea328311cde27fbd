"""Who is in, and how they get in: bootstrap, tokens, joining."""
