"""People at the front door: sign-up, log-in, their addresses, and who may look after them."""
