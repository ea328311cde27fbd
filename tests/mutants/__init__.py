"""The mutation gate: hand-made breakages, each of which some test must notice."""
