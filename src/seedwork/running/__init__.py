"""What one process of a service is made of: its connections, its loops, and how they end."""
