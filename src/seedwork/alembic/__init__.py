"""Hold what every migration history shares."""
