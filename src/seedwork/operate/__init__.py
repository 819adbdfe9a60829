"""What operators look at and do; nothing here runs on the message path."""
