"""Settings: frozen, validated once, units in their names."""
