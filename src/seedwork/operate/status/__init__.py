"""One screen of a whole system: what runs, what waits, and what somebody should look at."""
