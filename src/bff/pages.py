"""Show the pages behind the links of mails. They consume nothing: mail scanners fetch links before people do."""

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
PAGE = Answer(description="A page for people.", media_type="text/html")


@pages.get("/reveal")
@allow(PUBLIC)
@operation(answers={200: PAGE})
def reveal_page() -> Response:
    """Serve the page that reads the token from the fragment and asks for the password on a click."""
    return _page("reveal.html")


@pages.get("/reset")
@allow(PUBLIC)
@operation(answers={200: PAGE})
def reset_page() -> Response:
    """Serve the page that reads the token from the fragment and asks for another password."""
    return _page("reset.html")


@pages.get("/confirm-email")
@allow(PUBLIC)
@operation(answers={200: PAGE})
def confirm_email_page() -> Response:
    """Serve the page that reads the token from the fragment and confirms an address on a click."""
    return _page("confirm_email.html")


def _page(name: str) -> Response:
    return Response(render_template(name), headers=POLICY, content_type="text/html; charset=utf-8")
