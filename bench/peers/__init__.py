"""Run the peers: each in an environment of its own, doing the same work as Protools."""
