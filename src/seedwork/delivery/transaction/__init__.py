"""Work on one batch in one transaction: rows loaded and locked once, messages buffered, all written together."""
