"""The workflows of this system, and the commands that start them."""
