"""SQLite file formats and the virtual WAL."""
