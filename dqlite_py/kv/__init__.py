"""etcd's multi-version key-value model on SQLite tables."""
