"""Name what the front door's worker does beside projecting; commands it takes over HTTP alone."""

from __future__ import annotations

from bff.webhooks import call_webhooks

DUTIES = (call_webhooks,)
