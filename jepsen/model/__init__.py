"""Reference models: what a correct store answers."""
