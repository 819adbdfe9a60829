"""Take messages to their handlers, and what comes of each: an answer, a wait, another attempt or a dead letter."""
