"""Orders: what somebody wants, where it goes, and who brings it."""
