"""SQLite's write-ahead log as memory that can be captured, injected and rolled back."""
