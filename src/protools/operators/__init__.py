"""Let operators look at what needs them and act on it; nothing here runs on the message path."""
