"""Programs that run in a peer's own environment: they import nothing of Protools and nothing of `bench`."""
