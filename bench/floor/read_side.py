"""Project batches into the read databases: each projector upserts in one round trip, the newest version wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from bench.floor.parts import ACTOR, BEGIN, COMMIT, GENERATED, MOVED, SENT, Desk, Table, decode, run


def view(name: str, columns: str) -> Table:
    """Describe a table whose first column is the key and whose newest version wins."""
    key, *others = (column.split()[0] for column in columns.split(", "))
    values = ", ".join(f"{other} = excluded.{other}" for other in others)
    return Table(name, columns, f"ON CONFLICT ({key}) DO UPDATE SET {values} WHERE {name}.version < excluded.version")


SAGA_VIEW = view(
    "saga_view",
    "id uuid, version int, workflow text, subject text, actor text, status text, reason_code text, reason_detail text, "
    "steps text, started_at float8, moved_at float8",
)
SAGA_MOVE = Table("saga_move", "id uuid, version int, entries text", "ON CONFLICT DO NOTHING")
PASSWORD = "username text, version int, status text, issued_at float8, changed_at float8"
PASSWORD_VIEW, BFF_PASSWORD = view("password_view", PASSWORD), view("password", f"{PASSWORD}, actor text")
MAIL_VIEW = view(
    "mail_view",
    "id uuid, version int, kind text, username text, recipient text, status text, attempts int, created_at float8, "
    "sent_at float8",
)
COMMAND = view(
    "command",
    "id uuid, version int, type text, subject text, actor text, status text, reason_code text, reason_detail text, "
    "cancellable bool, created_at float8, updated_at float8",
)
COMMAND_MOVE = Table(
    "command_move",
    "id uuid, version int, status text, reason_code text, reason_detail text, updated_at float8",
    "ON CONFLICT DO NOTHING",
)


def project_sagas(desk: Desk, batch: Sequence[Any]) -> None:
    """Show the newest state of sagas, and every move."""
    views: dict[str, tuple[Any, ...]] = {}
    rows = []
    for message in batch:
        version, moved = int(message.properties()["ce_version"]), decode(MOVED, message.data())
        entries = orjson.loads(moved["entries"])
        for entry in entries:
            del entry["data"]
        saga_id, steps = moved["saga_id"], moved["steps"]
        rows.append((saga_id, version, orjson.dumps(entries).decode()))
        if saga_id not in views or views[saga_id][1] < version:
            told = (moved["workflow"], moved["subject"], ACTOR, moved["status"], "", "", steps)
            views[saga_id] = (saga_id, version, *told, moved["started_at"], moved["moved_at"])
    run(desk.connection, BEGIN, SAGA_VIEW.write(list(views.values())), SAGA_MOVE.write(rows), COMMIT)


def project_passwords(desk: Desk, batch: Sequence[Any]) -> None:
    """Show passwords in generador's read database."""
    rows = [_password_row(decode(GENERATED, message.data())) for message in batch]
    run(desk.connection, PASSWORD_VIEW.write(rows))


def _password_row(state: dict[str, Any]) -> tuple[Any, ...]:
    return (state["username"], 1, state["status"], state["issued_at"], state["changed_at"])


def project_mails(desk: Desk, batch: Sequence[Any]) -> None:
    """Show sent mails."""
    rows = []
    for message in batch:
        sent = decode(SENT, message.data())
        named = (sent["mail_id"], 1, "password", sent["username"], sent["email"], sent["status"], sent["attempts"])
        rows.append((*named, sent["created_at"], sent["sent_at"]))
    run(desk.connection, MAIL_VIEW.write(rows))


def project_commands(desk: Desk, batch: Sequence[Any]) -> None:
    """Show commands and passwords at the front door, and tell who waits."""
    commands: dict[str, tuple[Any, ...]] = {}
    moves, passwords, told = [], [], []
    for message in batch:
        envelope = message.properties()
        told.append(envelope["ce_correlationid"])
        if envelope["ce_type"] == GENERATED:
            passwords.append((*_password_row(decode(GENERATED, message.data())), ACTOR))
            continue
        moved, version = decode(MOVED, message.data()), int(envelope["ce_version"])
        saga_id, status = moved["saga_id"], moved["status"].lower()
        moves.append((saga_id, version, status, "", "", moved["moved_at"]))
        if saga_id not in commands or commands[saga_id][1] < version:
            created_at = int(saga_id[:8] + saga_id[9:13], 16) / 1000
            shown = ("issue-password", moved["subject"], ACTOR, status, "", "", moved["cancellable"])
            commands[saga_id] = (saga_id, version, *shown, created_at, moved["moved_at"])
    rows = [COMMAND.write(list(commands.values())), COMMAND_MOVE.write(moves)] if commands else []
    rows += [BFF_PASSWORD.write(passwords)] if passwords else []
    run(desk.connection, BEGIN, *rows, COMMIT)
    desk.channel.tell(told)
