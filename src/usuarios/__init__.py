"""Users: who they are, and their sessions."""
