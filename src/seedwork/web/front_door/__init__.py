"""The front door of a system: callers start workflows over HTTP, follow their commands and cancel them."""
