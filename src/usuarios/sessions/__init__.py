"""Sessions of users over gRPC: a token for each, and whether one is good."""
