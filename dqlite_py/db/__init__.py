"""SQLite databases of one member: batches, readers, checkpoints, rollback."""
