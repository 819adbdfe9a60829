"""Hold the building blocks of a saga system; know no service."""
