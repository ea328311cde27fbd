"""The networks that members stand in, and the faults of their links."""
