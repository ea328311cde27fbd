"""Watch: history and live events to many watchers with bounded memory."""
