"""Show the page behind a mail's link. It consumes nothing: mail scanners fetch links before people do."""

from __future__ import annotations

from flask import Blueprint, Response, render_template

from pulsaga.web import PUBLIC, Answer, allow, operation

pages = Blueprint("pages", __name__)

POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


@pages.get("/reveal")
@allow(PUBLIC)
@operation(answers={200: Answer(description="A page for people.", media_type="text/html")})
def reveal_page() -> Response:
    """Serve the page that reads the token from the fragment and asks for the password on a click."""
    return Response(render_template("reveal.html"), headers=POLICY, content_type="text/html; charset=utf-8")
