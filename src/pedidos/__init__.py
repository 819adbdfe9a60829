"""Orders by request id: made, then worked on."""
