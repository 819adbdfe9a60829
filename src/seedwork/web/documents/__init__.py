"""What callers may rely on, written down from the code: OpenAPI, AsyncAPI, XSD, and pages of them."""
