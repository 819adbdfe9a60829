"""Products: what is in stock, what orders hold of it, what was delivered."""
