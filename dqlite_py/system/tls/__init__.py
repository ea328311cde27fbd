"""TLS from files: contexts that follow their files, refusals as one line, self-signed pairs."""
