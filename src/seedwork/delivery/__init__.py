"""Messages in and out of a service, each with one effect, whatever arrives twice or dies."""
