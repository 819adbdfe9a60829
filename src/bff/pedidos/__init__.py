"""Orders by request id at the front door: as the system answered that this one follows."""
