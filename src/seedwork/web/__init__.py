"""HTTP in JSON and XML."""
