"""SQLite connections: one writer, several readers, checkpoints, injection."""
