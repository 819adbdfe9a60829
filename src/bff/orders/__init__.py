"""Orders, products and drivers at the front door."""
