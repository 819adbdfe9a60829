"""Plant every defect that `protools verify` knows into a system that has none, and see it found."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from tests.patience import PATIENCE_S
from tests.service.desk import CODEC, KEYS
from tests.service.passwords import SYSTEM
from tests.service.scene import FAR_S, Scene, play

from protools_saga.issue_password import ISSUE_PASSWORD
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.delivery.database import open_database
from pulsaga.delivery.messages import contract_of, first_id, id_time, new_id
from pulsaga.delivery.tables import event, pack, unpack
from pulsaga.errors import Unavailable
from pulsaga.operate.verify.catalogue import Catalogue
from pulsaga.operate.verify.report import Report, verify
from pulsaga.operate.verify.scope import Scope, time_of
from pulsaga.saga.log import Entry, Progress, fold
from pulsaga.saga.snapshots import entries_of, load_progress, snapshot_of, write_entries, write_steps
from pulsaga.saga.tables import saga
from pulsaga.settings import Settings, Side
from pulsaga_program.local import LocalPostgres

pytestmark = pytest.mark.usefixtures("passwords_alone")

GENERATE, REVOKE = "generador.generate-password", "generador.revoke-password"
SEND = "correo.send-password-mail"
AT_REST = Scope()
OVERDUE_S = 100.0
"""More than `protools verify` bears with, and less than an order of magnitude more."""


@dataclass
class Stage:
    """A played scene to spoil; every plant returns the id that must be reported.

    Time stands still where the scene ended: how long the tests take changes nothing. Only ids know the real clock.
    """

    settings: Settings
    ids: dict[str, str]
    commands: dict[tuple[str, str], str]
    ended_at: float

    @staticmethod
    def of(scene: Scene) -> Stage:
        return Stage(scene.settings, scene.ids, scene.commands, scene.ended_at)

    def later(self, seconds: float) -> Settings:
        """Settings by which it is so many seconds after the scene."""
        return replace(self.settings, clock_offset=self.ended_at + seconds - time.time())

    def do(self, service: str, statement: str, side: Side = "write", **values: Any) -> Any:
        engine = open_database(self.settings, service, side, "owner")
        with engine.begin() as tx:
            result = tx.execute(text(statement), values)
            found = result.scalar() if result.returns_rows else result.rowcount
        engine.dispose()
        assert found != 0, "the plant changed nothing"
        return found

    def loosen(self, service: str, table: str) -> None:
        """Take every constraint and trigger off a table."""
        for statement in (
            f"CREATE TABLE loose AS SELECT * FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE loose RENAME TO {table}",
        ):
            self.do(service, statement)

    def command(self, label: str, topic: str = GENERATE) -> str:
        return self.commands[self.ids[label], topic]

    def now(self) -> float:
        return self.ended_at

    def meet(self, service: str, identifier: str) -> None:
        values = {"consumer": service, "id": identifier, "at": self.now()}
        self.do(service, "INSERT INTO inbox (consumer, id, hash, at) VALUES (:consumer, :id, '', :at)", **values)

    def tell(self, service: str, kind: str, answers: str, identifier: str = "") -> str:
        identifier = identifier or new_id()
        values = {"aggregate": new_id(), "id": identifier, "type": kind, "answers": answers, "at": self.now()}
        self.do(service, f"INSERT INTO event ({EVENT}) VALUES (:aggregate, 1, :id, :type, :answers, '', :at)", **values)
        return identifier

    def add_mail(self, identifier: str, saga_id: str) -> None:
        context = orjson.dumps({"saga_id": saga_id}).decode()
        values = {"id": identifier, "context": context, "now": self.now(), "later": self.now() + FAR_S}
        self.do("correo", f"INSERT INTO mail ({MAIL}) VALUES ({MAIL_VALUES})", **values)

    def rewrite(self, label: str, edit: Callable[[list[Entry]], list[Entry]]) -> None:
        """Edit the entries of a saga's last move, and make the snapshot agree."""
        engine, saga_id = open_database(self.settings, "protools_saga", "write", "owner"), self.ids[label]
        schema = CommittedSchemas()[contract_of(SYSTEM.sagas.moved).dataschema]
        moves = event.select().where(event.c.aggregate == saga_id).order_by(event.c.version)
        progress = Progress(saga_id, ISSUE_PASSWORD.key)
        with engine.begin() as tx:
            rows = tx.execute(moves).all()
            for row in rows:
                wire = unpack(row.wire)
                body = CODEC.decode(SYSTEM.sagas.moved, wire.body, schema)
                entries = edit(entries_of(body)) if row is rows[-1] else entries_of(body)
                progress = fold(progress, entries)
            body = replace(body, entries=write_entries(entries), steps=write_steps(progress.steps))
            wire = wire._replace(body=CODEC.encode(body))
            last = (event.c.aggregate == saga_id) & (event.c.version == rows[-1].version)
            tx.execute(event.update().where(last).values(wire=pack(wire)))
            snapshot = {"progress": snapshot_of(progress), "wake_at": progress.wake_at}
            tx.execute(saga.update().where(saga.c.id == saga_id).values(snapshot))
        engine.dispose()

    def say_otherwise(self, label: str) -> None:
        """Let a saga's last event tell a status that its entries do not lead to."""
        engine, saga_id = open_database(self.settings, "protools_saga", "write", "owner"), self.ids[label]
        schema = CommittedSchemas()[contract_of(SYSTEM.sagas.moved).dataschema]
        with engine.begin() as tx:
            moves = event.select().where(event.c.aggregate == saga_id).order_by(event.c.version.desc())
            row = tx.execute(moves).first()
            assert row is not None
            wire = unpack(row.wire)
            body = replace(CODEC.decode(SYSTEM.sagas.moved, wire.body, schema), status="RUNNING")
            spoiled = pack(wire._replace(body=CODEC.encode(body)))
            tx.execute(event.update().where(event.c.id == row.id).values(wire=spoiled))
        engine.dispose()


EVENT = "aggregate, version, id, type, answers, wire, at"
MAIL = (
    "id, revision, username, recipient, sealed_token, context, status, attempts, claim, due_at, created_at, "
    "ended_at, error"
)
MAIL_VALUES = ":id, 1, 'x', 'x@example.test', '', :context, 'waiting', 0, NULL, :later, :now, NULL, ''"
Plant = Callable[[Stage], str]


# --- lost


def accept_without_a_trace(stage: Stage) -> str:
    return _accept(stage, new_id())


def _accept(stage: Stage, identifier: str) -> str:
    columns = "id, type, subject, actor, idempotency_key, body_hash, created_at"
    values = {"id": identifier, "at": stage.now()}
    stage.do(
        "bff", f"INSERT INTO acceptance ({columns}) VALUES (:id, 'issue-password', 'zoe', 'x', NULL, '', :at)", **values
    )
    return identifier


def handle_an_acceptance_without_effect(stage: Stage) -> str:
    identifier = accept_what_nobody_takes(stage)
    stage.meet("protools_saga", identifier)
    return identifier


def _owe(stage: Stage, label: str, status: str, due_at: str) -> str:
    columns = "id, revision, actor, url, status, attempts, due_at, created_at, error"
    values = {"id": stage.ids[label], "at": stage.now(), "status": status}
    stage.do(
        "bff", f"INSERT INTO webhook ({columns}) VALUES (:id, 1, 'x', 'x', :status, 0, {due_at}, :at, '')", **values
    )
    return stage.ids[label]


def leave_a_webhook(stage: Stage) -> str:
    return _owe(stage, "completed", "waiting", f":at - {OVERDUE_S}")


def never_call(stage: Stage) -> str:
    return _owe(stage, "completed", "waiting", "NULL")


def tell_an_end_too_early(stage: Stage) -> str:
    return _owe(stage, "waiting", "delivered", "NULL")


def give_a_webhook_up_in_silence(stage: Stage) -> str:
    return _owe(stage, "completed", "dead", "NULL")


def forget_a_cancel(stage: Stage) -> str:
    identifier = stage.command("cancelled", "protools_saga.cancel-saga")
    stage.do("protools_saga", "DELETE FROM inbox WHERE id = :id", id=identifier)
    return stage.ids["cancelled"]


def drop_a_command_on_its_way(stage: Stage) -> str:
    stage.do("protools_saga", "DELETE FROM outbox WHERE id = :id", id=stage.command("unsent"))
    return stage.command("unsent")


def drop_an_undo_on_its_way(stage: Stage) -> str:
    stage.do("protools_saga", "DELETE FROM outbox WHERE id = :id", id=stage.command("recalled", REVOKE))
    return stage.command("recalled", REVOKE)


def handle_a_refused_undo_without_effect(stage: Stage) -> str:
    command = stage.command("recalled", REVOKE)
    stage.meet("generador", command)
    stage.meet("protools_saga", stage.tell("generador", "generador.command-refused", command))
    return command


def forget_an_answer_at_the_coordinator(stage: Stage) -> str:
    command = stage.command("completed")
    reply = stage.do("generador", "SELECT CAST(id AS VARCHAR) FROM event WHERE answers = :id", id=command)
    stage.do("protools_saga", "DELETE FROM inbox WHERE id = :id", id=reply)
    return command


def handle_an_answer_without_effect(stage: Stage) -> str:
    command = stage.command("failing")
    stage.meet("protools_saga", stage.tell("generador", "generador.command-refused", command))
    return command


def forget_that_a_command_was_handled(stage: Stage) -> str:
    stage.do("generador", "DELETE FROM inbox WHERE id = :id", id=stage.command("completed"))
    return stage.command("completed")


def handle_a_command_without_answering(stage: Stage) -> str:
    stage.meet("generador", stage.command("failing"))
    return stage.command("failing")


def drop_a_waiting_mail(stage: Stage) -> str:
    stage.do("correo", "DELETE FROM mail WHERE id = :id", id=stage.command("waiting", SEND))
    return stage.command("waiting", SEND)


def drop_a_password(stage: Stage) -> str:
    stage.do("generador", "DELETE FROM password WHERE username = 'ada'")
    return stage.command("completed")


def drop_a_sent_mail(stage: Stage) -> str:
    mail = stage.command("completed", SEND)
    stage.do("correo", "DELETE FROM mail WHERE id = :id", id=mail)
    stage.do("correo", "DELETE FROM mail_view WHERE id = :id", side="read", id=mail)
    return stage.ids["completed"]


# --- doubled


def generate_twice_for_one_command(stage: Stage) -> str:
    first, second = stage.command("undone"), stage.command("again")
    stage.loosen("generador", "event")
    reply = stage.do("generador", "SELECT CAST(id AS VARCHAR) FROM event WHERE answers = :id", id=second)
    stage.do("generador", "UPDATE event SET answers = :first WHERE answers = :second", first=first, second=second)
    stage.tell("generador", "generador.nothing-to-revoke", second, reply)
    return first


def hold_two_passwords_of_a_name(stage: Stage, label: str = "completed", username: str = "ada") -> str:
    stage.loosen("generador", "password")
    other = {"command": stage.command("suspended"), "saga": stage.ids["suspended"]}
    columns = "username, revision, version, command_id, saga_id, status, sealed_secret, issued_at, changed_at"
    copied = columns.replace("command_id, saga_id", "command_id_, saga_id_")
    copied = copied.replace("command_id_", "CAST(:command AS " + _uuid(stage) + ")")
    copied = copied.replace("saga_id_", "CAST(:saga AS " + _uuid(stage) + ")")
    copy = f"INSERT INTO password ({columns}) SELECT {copied} FROM password WHERE username = :name"
    stage.do("generador", copy, **other, name=username)
    return min(stage.ids[label], stage.ids["suspended"])


def hold_a_password_beside_a_revealed_one(stage: Stage) -> str:
    return hold_two_passwords_of_a_name(stage, "revealed", "hal")


def _uuid(stage: Stage) -> str:
    return "UUID" if stage.settings.db_hostname else "VARCHAR"


def generate_over_a_valid_password(stage: Stage) -> str:
    revealed = "UPDATE event SET type = 'generador.password-revealed' WHERE aggregate = 'bob' AND version = 2"
    stage.do("generador", revealed)
    return stage.command("again")


def keep_a_second_mail(stage: Stage) -> str:
    stage.add_mail(stage.command("completed"), stage.ids["completed"])
    return stage.ids["completed"]


def answer_twice(stage: Stage) -> str:
    command = stage.command("refused")
    stage.loosen("generador", "event")
    stage.meet("protools_saga", stage.tell("generador", "generador.command-refused", command))
    return command


def accept_one_key_twice(stage: Stage) -> str:
    stage.loosen("bff", "acceptance")
    stage.do("bff", "UPDATE acceptance SET idempotency_key = 'first' WHERE idempotency_key = 'second'")
    return min(stage.ids["completed"], stage.ids["refused"])


def end_twice(stage: Stage) -> str:
    stage.rewrite("completed", lambda entries: [*entries, entries[-1]])
    return stage.ids["completed"]


def start_twice(stage: Stage) -> str:
    stage.rewrite("completed", lambda entries: [Entry("started", stage.now()), *entries])
    return stage.ids["completed"]


def tell_one_version_twice(stage: Stage) -> str:
    stage.loosen("generador", "event")
    copied = EVENT.replace("id", "CAST(:id AS " + _uuid(stage) + ")", 1).replace("answers", "NULL")
    copy = f"INSERT INTO event ({EVENT}) SELECT {copied} FROM event WHERE aggregate = 'ada'"
    stage.do("generador", copy, id=new_id())
    return "ada"


def tell_one_move_twice(stage: Stage) -> str:
    stage.loosen("protools_saga", "event")
    copied = EVENT.replace("id", "CAST(:id AS " + _uuid(stage) + ")", 1)
    copy = f"INSERT INTO event ({EVENT}) SELECT {copied} FROM event WHERE aggregate = :saga AND version = 2"
    stage.do("protools_saga", copy, id=new_id(), saga=stage.ids["completed"])
    return stage.ids["completed"]


# --- stuck


def accept_what_nobody_takes(stage: Stage) -> str:
    return _accept(stage, first_id(stage.now() - 1))


def oversleep(stage: Stage, overdue_s: float = OVERDUE_S, label: str = "waiting") -> str:
    wake_at = stage.now() - overdue_s
    stage.rewrite(label, lambda entries: [*entries[:-1], entries[-1]._replace(wake_at=wake_at)])
    return stage.ids[label]


def oversleep_a_compensation(stage: Stage) -> str:
    return oversleep(stage, label="recalled")


def forget_to_wake(stage: Stage, label: str = "waiting") -> str:
    stage.loosen("protools_saga", "saga")
    stage.do("protools_saga", "UPDATE saga SET wake_at = NULL WHERE id = :id", id=stage.ids[label])
    return stage.ids[label]


def forget_to_wake_a_compensation(stage: Stage) -> str:
    return forget_to_wake(stage, "recalled")


def stop_sending_again(stage: Stage, overdue_s: float = OVERDUE_S) -> str:
    overdue = {"id": stage.ids["waiting"], "at": stage.now() - overdue_s}
    stage.do("protools_saga", "UPDATE saga SET resend_at = :at WHERE id = :id", **overdue)
    return stage.ids["waiting"]


def suspend_in_silence(stage: Stage) -> str:
    stage.do("protools_saga", "DELETE FROM incident WHERE subject = :id", id=stage.ids["suspended"])
    return stage.ids["suspended"]


def suspend_behind_a_closed_incident(stage: Stage) -> str:
    stage.do("protools_saga", "UPDATE incident SET closed_at = 1 WHERE subject = :id", id=stage.ids["suspended"])
    return stage.ids["suspended"]


def close_the_letter_of_a_beginning(stage: Stage) -> str:
    """Leave a command behind that waits for nothing, as its discarding once did."""
    dead = stage.ids["dead"]
    stage.do("protools_saga", "UPDATE dead_letter SET outcome = 'discarded', ended_at = 1 WHERE id = :id", id=dead)
    stage.do("protools_saga", "UPDATE incident SET closed_at = 1 WHERE subject = :id", id=dead)
    return dead


def close_the_letter_of_an_unreadable_beginning(stage: Stage) -> str:
    close_the_letter_of_a_beginning(stage)
    stage.do("protools_saga", "DELETE FROM event WHERE answers = :id", id=stage.ids["dead"])
    stage.do("bff", "DELETE FROM command WHERE id = :id", "read", id=stage.ids["dead"])
    return stage.ids["dead"]


def handle_a_cancel_without_effect(stage: Stage) -> str:
    too_late = stage.command("completed", "protools_saga.cancel-saga")
    stage.do("protools_saga", "DELETE FROM event WHERE answers = :id", id=too_late)
    return stage.ids["completed"]


def leave_an_incident_of_a_letter(stage: Stage) -> str:
    stage.do("generador", "UPDATE incident SET closed_at = NULL WHERE subject = :id", id=stage.command("replayed"))
    return stage.command("replayed")


def leave_an_incident_of_a_saga(stage: Stage) -> str:
    stage.do("protools_saga", "UPDATE incident SET closed_at = NULL WHERE subject = :id", id=stage.ids["replayed"])
    return stage.ids["replayed"]


def bury_behind_a_closed_incident(stage: Stage) -> str:
    stage.do("correo", "UPDATE incident SET closed_at = 1 WHERE subject = :id", id=stage.command("suspended", SEND))
    return stage.command("suspended", SEND)


def stop_the_sweep(stage: Stage, overdue_s: float = OVERDUE_S) -> str:
    overdue = {"id": stage.command("unsent"), "at": stage.now() - overdue_s}
    stage.do("protools_saga", "UPDATE outbox SET due_at = :at WHERE id = :id", **overdue)
    return stage.command("unsent")


def stop_retrying(stage: Stage, overdue_s: float = OVERDUE_S) -> str:
    stage.do("generador", "UPDATE failure SET due_at = :at", at=stage.now() - overdue_s)
    return stage.command("failing")


def leave_a_projection_undone(stage: Stage) -> str:
    columns = "id, topic, delivery, attempts, error, due_at, at"
    values = {"id": new_id(), "at": stage.now() - 100}
    stage.do("bff", f"INSERT INTO failure ({columns}) VALUES (:id, 'x', '', 1, '', :at, :at)", side="read", **values)
    return str(values["id"])


def stop_the_sender(stage: Stage, overdue_s: float = OVERDUE_S) -> str:
    values = {"id": stage.command("waiting", SEND), "at": stage.now() - overdue_s}
    stage.do("correo", "UPDATE mail SET due_at = :at, created_at = :at WHERE id = :id", **values)
    return str(values["id"])


def leave_a_claim(stage: Stage, overdue_s: float = OVERDUE_S) -> str:
    values = {"id": stage.command("waiting", SEND), "claim": new_id(), "at": stage.now() - overdue_s}
    stage.do("correo", "UPDATE mail SET due_at = :at, claim = :claim WHERE id = :id", **values)
    return str(values["id"])


def make_a_mail_never_due(stage: Stage) -> str:
    stage.do("correo", "UPDATE mail SET due_at = NULL WHERE id = :id", id=stage.command("waiting", SEND))
    return stage.command("waiting", SEND)


# --- orphaned


def forget_an_acceptance(stage: Stage) -> str:
    stage.do("bff", "DELETE FROM acceptance WHERE id = :id", id=stage.ids["completed"])
    return stage.ids["completed"]


def forget_what_began_a_saga(stage: Stage) -> str:
    stage.do("protools_saga", "DELETE FROM inbox WHERE id = :id", id=stage.ids["completed"])
    return stage.ids["completed"]


def handle_what_nobody_issued(stage: Stage) -> str:
    stranger = new_id()
    stage.meet("correo", stranger)
    return stranger


def bury_what_nobody_issued(stage: Stage) -> str:
    values = {"id": new_id(), "at": stage.now()}
    stage.do("generador", "INSERT INTO inbox (consumer, id, hash, at) VALUES ('generador', :id, NULL, :at)", **values)
    return str(values["id"])


def answer_what_nobody_issued(stage: Stage) -> str:
    stranger = new_id()
    stage.tell("generador", "generador.nothing-to-revoke", stranger)
    return stranger


def forget_an_answer_that_was_known(stage: Stage) -> str:
    command = stage.command("refused")
    stage.do("generador", "DELETE FROM event WHERE answers = :id", id=command)
    stage.do("generador", "DELETE FROM inbox WHERE id = :id", id=command)
    return command


def make_a_password_unasked(stage: Stage) -> str:
    stranger = new_id()
    stage.do("generador", "UPDATE password SET command_id = :id WHERE username = 'ada'", id=stranger)
    return stranger


def make_a_mail_unasked(stage: Stage) -> str:
    stranger = new_id()
    stage.add_mail(stranger, new_id())
    return stranger


def keep_a_password_valid(stage: Stage) -> str:
    stage.do("generador", "UPDATE password SET saga_id = :id WHERE username = 'ada'", id=stage.ids["late"])
    return stage.ids["late"]


def leave_a_successor(stage: Stage) -> str:
    stage.do("generador", "UPDATE rotation SET status = 'issued' WHERE saga_id = :id", id=stage.ids["unrotated"])
    return stage.ids["unrotated"]


def show(service: str, table: str, columns: str, values: str) -> Plant:
    def plant(stage: Stage) -> str:
        stranger = new_id()
        stage.do(service, f"INSERT INTO {table} ({columns}) VALUES ({values})", side="read", id=stranger)
        return stranger

    return plant


SAGA_VIEW = "id, version, workflow, subject, status, reason_code, reason_detail, steps, started_at, moved_at"
show_a_saga = show("protools_saga", "saga_view", SAGA_VIEW, ":id, 1, 'x', 'x', 'RUNNING', '', '', '[]', 1, 1")
COMMAND_VIEW = "id, version, type, subject, status, reason_code, reason_detail, cancellable, created_at, updated_at"
show_a_command = show("bff", "command", COMMAND_VIEW, ":id, 1, 'x', 'x', 'running', '', '', 0, 1, 1")
PASSWORD_VIEW = "username, version, status, issued_at, changed_at"
show_a_password = show("generador", "password_view", PASSWORD_VIEW, ":id, 1, 'issued', 1, 1")
show_a_password_in_front = show("bff", "password", PASSWORD_VIEW, ":id, 1, 'issued', 1, 1")
MAIL_VIEW = "id, version, username, recipient, status, attempts, created_at, sent_at"
show_a_mail = show("correo", "mail_view", MAIL_VIEW, ":id, 1, 'x', 'x', 'sent', 1, 1, 1")


# --- diverged


def spoil(label: str, service: str, statement: str, side: Side = "write") -> Plant:
    """Change the row of a saga."""

    def plant(stage: Stage) -> str:
        stage.do(service, statement, side=side, id=stage.ids[label])
        return stage.ids[label]

    return plant


skip_a_move_in_the_row = spoil("completed", "protools_saga", "UPDATE saga SET seq = seq + 1 WHERE id = :id")
lose_the_row = spoil("completed", "protools_saga", "DELETE FROM saga WHERE id = :id")
name_another = spoil("waiting", "protools_saga", "UPDATE saga SET subject = 'eve' WHERE id = :id")
move_earlier = spoil("waiting", "protools_saga", "UPDATE saga SET moved_at = moved_at - 1 WHERE id = :id")
wake_later = spoil("waiting", "protools_saga", "UPDATE saga SET wake_at = wake_at + 1 WHERE id = :id")
aim_at_nobody = spoil("waiting", "protools_saga", "UPDATE saga SET target = 'generador' WHERE id = :id")
hold_a_slot = spoil(
    "completed",
    "protools_saga",
    "INSERT INTO slot (id, revision, limit_key, saga_id, path, state, at) "
    "VALUES ('of one that has ended', 1, 'few', :id, '0', 'held', 0)",
)
skip_a_version = spoil(
    "completed", "protools_saga", "UPDATE event SET version = version + 1 WHERE aggregate = :id AND version = 3"
)
accept_for_another = spoil("completed", "bff", "UPDATE acceptance SET subject = 'eve' WHERE id = :id")
show_another_status = spoil(
    "completed", "protools_saga", "UPDATE saga_view SET status = 'SUSPENDED' WHERE id = :id", "read"
)
show_a_move_less = spoil("completed", "protools_saga", "DELETE FROM saga_move WHERE id = :id AND version = 2", "read")
show_another_user = spoil("completed", "protools_saga", "UPDATE saga_view SET subject = 'eve' WHERE id = :id", "read")
show_another_reason = spoil("refused", "protools_saga", "UPDATE saga_view SET reason_code = 'x' WHERE id = :id", "read")
show_another_time = spoil("completed", "protools_saga", "UPDATE saga_view SET moved_at = 1 WHERE id = :id", "read")
forget_a_move = spoil("completed", "bff", "DELETE FROM command_move WHERE id = :id AND version = 2", "read")
forget_moves = spoil("completed", "bff", "DELETE FROM command_move WHERE id = :id", "read")
forget_the_last_move = spoil(
    "completed",
    "bff",
    "DELETE FROM command_move WHERE id = :id AND version = (SELECT version FROM command WHERE id = :id)",
    "read",
)
show_no_moves = spoil("completed", "protools_saga", "DELETE FROM saga_move WHERE id = :id", "read")
show_no_saga = spoil("completed", "protools_saga", "DELETE FROM saga_view WHERE id = :id", "read")
show_another_outcome = spoil("completed", "bff", "UPDATE command SET status = 'refused' WHERE id = :id", "read")
show_to_another = spoil("completed", "bff", "UPDATE command SET actor = 'rival' WHERE id = :id", "read")
show_to_nobody = spoil("refused", "bff", "UPDATE command SET actor = NULL WHERE id = :id", "read")
show_a_command_of_another = spoil("completed", "bff", "UPDATE command SET subject = 'eve' WHERE id = :id", "read")
show_another_reason_in_front = spoil("refused", "bff", "UPDATE command SET reason_code = 'x' WHERE id = :id", "read")
show_an_older_version = spoil("completed", "bff", "UPDATE command SET version = 2 WHERE id = :id", "read")
show_no_refusal = spoil("expired", "bff", "DELETE FROM command WHERE id = :id", "read")


def change_what_the_snapshot_holds(stage: Stage) -> str:
    progress = stage.do("protools_saga", "SELECT progress FROM saga WHERE id = :id", id=stage.ids["waiting"])
    spoiled = snapshot_of(load_progress({"progress": progress})._replace(data={}))
    values = {"id": stage.ids["waiting"], "progress": spoiled}
    stage.do("protools_saga", "UPDATE saga SET progress = :progress WHERE id = :id", **values)
    return stage.ids["waiting"]


def corrupt_the_snapshot(stage: Stage) -> str:
    stage.do("protools_saga", "UPDATE saga SET progress = '{' WHERE id = :id", id=stage.ids["waiting"])
    return stage.ids["waiting"]


def tell_another_state(stage: Stage) -> str:
    stage.say_otherwise("completed")
    return stage.ids["completed"]


def tell_another_end(stage: Stage) -> str:
    expired = "UPDATE event SET type = 'generador.password-expired' WHERE aggregate = 'hal' AND version = 2"
    stage.do("generador", expired)
    return "hal"


def forget_to_expire(stage: Stage) -> str:
    earlier = "SET changed_at = changed_at - 86500 WHERE username = 'ada'"
    stage.do("generador", "UPDATE password SET mailed_at = mailed_at - 86500 WHERE username = 'ada'")
    stage.do("generador", f"UPDATE password {earlier}")
    stage.do("generador", f"UPDATE password_view {earlier}", side="read")
    stage.do("bff", f"UPDATE password {earlier}", side="read")
    return "ada"


def forget_that_the_mail_went(stage: Stage) -> str:
    stage.do("generador", "UPDATE password SET mailed_at = NULL WHERE username = 'ada'")
    stage.do("correo", "UPDATE event SET at = at - 86500 WHERE answers = :id", id=stage.command("completed", SEND))
    return "ada"


def show_a_password_otherwise(service: str, table: str, change: str = "version = 1") -> Plant:
    def plant(stage: Stage) -> str:
        stage.do(service, f"UPDATE {table} SET {change} WHERE username = 'hal'", side="read")
        return "hal"

    return plant


show_an_older_password = show_a_password_otherwise("generador", "password_view")
show_an_older_password_in_front = show_a_password_otherwise("bff", "password")
show_another_status_of_a_password = show_a_password_otherwise("bff", "password", "status = 'issued'")
show_another_time_of_a_password = show_a_password_otherwise("bff", "password", "changed_at = changed_at - 1")


def show_no_password(stage: Stage) -> str:
    stage.do("bff", "DELETE FROM password WHERE username = 'hal'", side="read")
    return "hal"


def answer_otherwise_than_the_mail(stage: Stage) -> str:
    refused = "UPDATE event SET type = 'correo.command-refused' WHERE answers = :id"
    stage.do("correo", refused, id=stage.command("completed", SEND))
    return stage.command("completed", SEND)


def show_a_mail_otherwise(change: str) -> Plant:
    def plant(stage: Stage) -> str:
        mail = stage.command("completed", SEND)
        stage.do("correo", f"{change} WHERE id = :id", side="read", id=mail)
        return mail

    return plant


show_another_recipient = show_a_mail_otherwise("UPDATE mail_view SET recipient = 'eve@example.test'")
show_another_user_of_a_mail = show_a_mail_otherwise("UPDATE mail_view SET username = 'eve'")
show_another_status_of_a_mail = show_a_mail_otherwise("UPDATE mail_view SET status = 'waiting'")
show_no_mail = show_a_mail_otherwise("DELETE FROM mail_view")


# --- late and dead


def succeed_late(stage: Stage) -> str:
    late = Entry("late", stage.now(), "0", command_id=stage.command("refused"), code="compensate")
    stage.rewrite("refused", lambda entries: [late, *entries])
    return stage.ids["refused"]


def park_in_silence(stage: Stage) -> str:
    parked = Entry("parked", stage.now(), "0", command_id=stage.command("refused"), code="park")
    stage.rewrite("refused", lambda entries: [parked, *entries])
    return stage.ids["refused"]


def bury_in_silence(stage: Stage) -> str:
    stage.do("correo", "DELETE FROM incident WHERE subject = :id", id=stage.command("suspended", SEND))
    return stage.command("suspended", SEND)


@dataclass(frozen=True)
class Planted:
    """Bind a plant to the check that must find it; `later_s` lets that much time pass first."""

    check: str
    plant: Plant
    later_s: float = 0.0
    scope: Scope = AT_REST


PLANTS = (
    Planted("lost/accepted-command", accept_without_a_trace),
    Planted("lost/accepted-command", handle_an_acceptance_without_effect, later_s=600, scope=Scope(live_s=0)),
    Planted("lost/cancellation", forget_a_cancel),
    Planted("stuck/webhook", leave_a_webhook),
    Planted("stuck/webhook", never_call),
    Planted("orphaned/webhook", tell_an_end_too_early),
    Planted("dead/webhook-in-silence", give_a_webhook_up_in_silence),
    Planted("lost/issued-command", drop_a_command_on_its_way),
    Planted("lost/issued-command", drop_an_undo_on_its_way),
    Planted("lost/reply", forget_an_answer_at_the_coordinator),
    Planted("lost/reply-without-effect", handle_an_answer_without_effect),
    Planted("lost/reply-without-effect", handle_a_refused_undo_without_effect),
    Planted("lost/handled-command", forget_that_a_command_was_handled),
    Planted("lost/answer", handle_a_command_without_answering),
    Planted("lost/mail", drop_a_waiting_mail),
    Planted("lost/password", drop_a_password),
    Planted("lost/mail-of-completed", drop_a_sent_mail),
    Planted("doubled/password", generate_twice_for_one_command),
    Planted("doubled/password-of-name", hold_two_passwords_of_a_name),
    Planted("doubled/password-of-name", hold_a_password_beside_a_revealed_one),
    Planted("doubled/password-of-name", generate_over_a_valid_password),
    Planted("doubled/mail", keep_a_second_mail),
    Planted("doubled/reply", answer_twice),
    Planted("doubled/idempotency-key", accept_one_key_twice),
    Planted("doubled/start-or-end", end_twice),
    Planted("doubled/start-or-end", start_twice),
    Planted("doubled/version", tell_one_version_twice),
    Planted("doubled/version", tell_one_move_twice),
    Planted("stuck/accepted-command", accept_what_nobody_takes, later_s=OVERDUE_S, scope=Scope(live_s=0)),
    Planted("stuck/wake-up", oversleep),
    Planted("stuck/wake-up", oversleep_a_compensation),
    Planted("stuck/no-wake-up", forget_to_wake),
    Planted("stuck/no-wake-up", forget_to_wake_a_compensation),
    Planted("stuck/not-sent-again", stop_sending_again, later_s=120),
    Planted("stuck/suspended-in-silence", suspend_in_silence),
    Planted("stuck/suspended-in-silence", suspend_behind_a_closed_incident),
    Planted("stuck/given-up-command", close_the_letter_of_a_beginning),
    Planted("lost/accepted-command", close_the_letter_of_an_unreadable_beginning),
    Planted("stuck/cancellation", handle_a_cancel_without_effect),
    Planted("orphaned/incident", leave_an_incident_of_a_letter),
    Planted("orphaned/incident", leave_an_incident_of_a_saga),
    Planted("dead/in-silence", bury_behind_a_closed_incident),
    Planted("stuck/outbox", stop_the_sweep),
    Planted("stuck/failure", stop_retrying),
    Planted("stuck/failure", leave_a_projection_undone),
    Planted("stuck/unexpired", forget_to_expire),
    Planted("stuck/unexpired", forget_that_the_mail_went),
    Planted("stuck/mail", stop_the_sender, later_s=120),
    Planted("stuck/mail-claim", leave_a_claim),
    Planted("stuck/mail-never-due", make_a_mail_never_due),
    Planted("orphaned/saga", forget_an_acceptance),
    Planted("orphaned/saga", forget_what_began_a_saga),
    Planted("orphaned/handled-command", handle_what_nobody_issued),
    Planted("orphaned/handled-command", bury_what_nobody_issued),
    Planted("orphaned/answer", answer_what_nobody_issued),
    Planted("orphaned/known-answer", forget_an_answer_that_was_known),
    Planted("orphaned/password", make_a_password_unasked),
    Planted("orphaned/mail", make_a_mail_unasked),
    Planted("orphaned/password-not-undone", keep_a_password_valid),
    Planted("orphaned/successor", leave_a_successor),
    Planted("orphaned/view", show_a_saga),
    Planted("orphaned/view", show_a_command),
    Planted("orphaned/view", show_a_password),
    Planted("orphaned/view", show_a_password_in_front),
    Planted("orphaned/view", show_a_mail),
    Planted("diverged/snapshot", skip_a_move_in_the_row),
    Planted("diverged/snapshot", lose_the_row),
    Planted("diverged/snapshot", name_another),
    Planted("diverged/snapshot", move_earlier),
    Planted("diverged/snapshot", wake_later),
    Planted("diverged/snapshot", aim_at_nobody),
    Planted("diverged/snapshot", change_what_the_snapshot_holds),
    Planted("diverged/snapshot", corrupt_the_snapshot),
    Planted("diverged/slot", hold_a_slot),
    Planted("diverged/last-event", tell_another_state),
    Planted("diverged/version-gap", skip_a_version),
    Planted("diverged/subject", accept_for_another),
    Planted("diverged/saga-view", show_another_status),
    Planted("diverged/saga-view", show_another_user),
    Planted("diverged/saga-view", show_another_reason),
    Planted("diverged/saga-view", show_another_time),
    Planted("diverged/saga-view", show_a_move_less),
    Planted("diverged/saga-view", show_no_moves),
    Planted("diverged/saga-view", show_no_saga),
    Planted("diverged/command-owner", show_to_another),
    Planted("diverged/command-owner", show_to_nobody),
    Planted("diverged/command-view", show_another_outcome),
    Planted("diverged/command-view", show_a_command_of_another),
    Planted("diverged/command-view", show_another_reason_in_front),
    Planted("diverged/command-view", show_an_older_version),
    Planted("diverged/command-view", show_no_refusal),
    Planted("diverged/command-moves", forget_a_move),
    Planted("diverged/command-moves", forget_moves),
    Planted("diverged/command-moves", forget_the_last_move),
    Planted("diverged/password", tell_another_end),
    Planted("diverged/password-view", show_an_older_password),
    Planted("diverged/password-view", show_an_older_password_in_front),
    Planted("diverged/password-view", show_another_status_of_a_password),
    Planted("diverged/password-view", show_another_time_of_a_password),
    Planted("diverged/password-view", show_no_password),
    Planted("diverged/mail", answer_otherwise_than_the_mail),
    Planted("diverged/mail-view", show_another_recipient),
    Planted("diverged/mail-view", show_another_user_of_a_mail),
    Planted("diverged/mail-view", show_another_status_of_a_mail),
    Planted("diverged/mail-view", show_no_mail),
    Planted("late/success", succeed_late),
    Planted("late/parked-in-silence", park_in_silence),
    Planted("dead/in-silence", bury_in_silence),
)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """One scene for all tests of this file; each spoils a copy."""
    home = tmp_path_factory.mktemp("played")
    scene = play(Settings.read({"PROTOOLS_HOME": str(home), **KEYS}))
    return Stage.of(scene)


@pytest.fixture
def stage(played: Stage, tmp_path: Path) -> Stage:
    shutil.copytree(played.settings.home, tmp_path / "home")
    return replace(played, settings=replace(played.settings, home=tmp_path / "home"))


def found(stage: Stage, scope: Scope = AT_REST, later_s: float = 0.0) -> set[tuple[str, str]]:
    """What is reported beside the one late success of the scene."""
    report = verify(SYSTEM, stage.later(later_s), scope)
    return named(report) - {("late/success", stage.ids["late"])}


def named(report: Report) -> set[tuple[str, str]]:
    return {
        (f"{finding.check.kind}/{finding.check.name}", identifier)
        for finding in report.findings
        for identifier, _ in finding.ids
    }


@pytest.mark.parametrize("planted", PLANTS, ids=lambda planted: f"{planted.check}-{planted.plant.__name__}")
def test_each_planted_defect_is_reported_by_its_check_alone(stage: Stage, planted: Planted) -> None:
    """An oracle that misses a defect, or points at the wrong thing, is worse than none."""
    identifier = planted.plant(stage)
    assert found(stage, planted.scope, planted.later_s) == {(planted.check, identifier)}


QUESTIONS = Catalogue(SYSTEM, Settings.read(KEYS)).questions


def test_every_check_has_a_plant() -> None:
    """A check that was never seen red proves nothing."""
    assert {planted.check for planted in PLANTS} == {question.check.path for question in QUESTIONS}


def test_operators_ended_what_the_scene_says_they_ended(stage: Stage) -> None:
    """Replays and steps tried anew leave events, letters and ids that verify has to know for legal."""
    engine = open_database(stage.settings, "protools_saga", "write", "owner")
    with engine.connect() as connection:
        status = {row.id: row.status for row in connection.execute(text("SELECT id, status FROM saga"))}
    engine.dispose()
    ends = {label: status[stage.ids[label]] for label in ("replayed", "retried", "given-up")}
    assert ends == {"replayed": "COMPLETED", "retried": "COMPLETED", "given-up": "COMPENSATED"}


@pytest.mark.parametrize(
    "scope",
    [Scope(), Scope(live_s=0), Scope(live_s=30), Scope(since=time.time() - 3600), Scope(since=0, live_s=0)],
    ids=["at-rest", "live", "live-30", "since", "since-live"],
)
def test_whatever_is_legal_is_not_reported(stage: Stage, scope: Scope) -> None:
    """Completed, revealed, refused, undone, late, overtaken, expired, suspended, and every way to wait: no alarm."""
    assert found(stage, scope) == set()


def test_a_webhook_that_waits_for_its_turn_is_no_defect(stage: Stage) -> None:
    """Calls to a receiver that hangs are bounded, and may be overdue for hours; whoever makes them was just seen."""
    leave_a_webhook(stage)
    _owe(stage, "waiting", "waiting", ":at + 30")
    assert found(stage) == set()


def test_the_late_success_of_the_scene_is_told_with_its_policy_and_is_no_defect(stage: Stage) -> None:
    """What the late policy handled is told, not held against the system."""
    report = verify(SYSTEM, stage.later(0), Scope())
    (finding,) = report.findings
    assert [(identifier, detail.partition(":")[0]) for identifier, detail in finding.ids] == [
        (stage.ids["late"], "compensate")
    ]
    assert (report.defects, report.sagas) == (0, len(stage.ids))


def test_what_a_silent_receiver_has_not_taken_is_not_called_lost(stage: Stage) -> None:
    """Through an outage commands lie in the broker for hours; the saga's own timers watch over them."""
    drop_a_command_on_its_way(stage)
    assert found(stage, Scope(live_s=0), later_s=600) == set()


@pytest.mark.parametrize(
    ("plant", "later_s"),
    [
        (oversleep, 0),
        (stop_sending_again, 120),
        (stop_the_sweep, 0),
        (stop_retrying, 0),
        (stop_the_sender, 120),
        (leave_a_claim, 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_overdue_by_half_a_minute_is_not_stuck(stage: Stage, plant: Callable[..., str], later_s: int) -> None:
    """A process that dies is started again within seconds, and takes up what is due."""
    plant(stage, 30.0 - later_s)
    assert found(stage, later_s=later_s) == set()


def test_what_was_accepted_a_moment_ago_is_not_stuck(stage: Stage) -> None:
    """It is on its way."""
    accept_what_nobody_takes(stage)
    assert found(stage, Scope(live_s=0), later_s=30) == set()


@pytest.mark.parametrize(("seconds", "check"), [(30, "stuck/accepted-command"), (100, "lost/accepted-command")])
def test_an_acceptance_is_lost_when_its_receiver_has_taken_what_is_a_minute_younger(
    stage: Stage, seconds: int, check: str
) -> None:
    """Until then it may lie in another partition, behind others."""
    identifier = accept_what_nobody_takes(stage)
    stage.meet("protools_saga", first_id(stage.now() + seconds))
    assert found(stage, Scope(live_s=0), later_s=120) == {(check, identifier)}


@pytest.mark.parametrize(("seconds", "is_lost"), [(30, False), (100, True)])
@pytest.mark.parametrize(
    ("check", "plant", "receiver"),
    [
        ("lost/issued-command", drop_a_command_on_its_way, "generador"),
        ("lost/reply", forget_an_answer_at_the_coordinator, "protools_saga"),
    ],
    ids=["command", "reply"],
)
def test_a_message_is_lost_when_its_receiver_has_taken_what_is_a_minute_younger(
    stage: Stage, check: str, plant: Plant, receiver: str, seconds: int, is_lost: bool
) -> None:
    """Queues of one receiver may be apart, but not for ever."""
    identifier = plant(stage)
    said = stage.do("protools_saga", f"SELECT at FROM event WHERE aggregate = '{stage.ids['unsent']}' LIMIT 1")
    stage.meet(receiver, first_id(said + seconds))
    assert ((check, identifier) in found(stage, Scope(live_s=0), later_s=120)) == is_lost


@pytest.mark.parametrize("topic", [GENERATE, "*"])
def test_what_waits_for_a_paused_type_is_neither_lost_nor_stuck(stage: Stage, topic: str) -> None:
    """An operator keeps it where it is, and knows; what another service was sent is lost as ever."""
    lost, overdue = drop_a_command_on_its_way(stage), stop_retrying(stage)
    assert found(stage) == {("lost/issued-command", lost), ("stuck/failure", overdue)}
    pause = "INSERT INTO pause (topic, who, why, at) VALUES (:topic, 'ada', 'full', :at)"
    stage.do("correo", pause, topic=topic, at=0)
    assert found(stage) == {("lost/issued-command", lost), ("stuck/failure", overdue)}
    stage.do("generador", pause, topic=topic, at=0)
    assert found(stage) == set()


def test_a_command_that_waits_its_turn_to_be_sent_again_is_not_stuck(stage: Stage) -> None:
    """A silent target gets one probe an interval; whoever waits behind it is overdue and well."""
    stop_sending_again(stage)
    assert found(stage) == set()


SENT = "UPDATE mail SET ended_at = :at WHERE username = 'ada'"
PUT_BACK = "UPDATE mail SET due_at = :at WHERE username = 'x'"


@pytest.mark.parametrize(
    ("sign", "seconds", "lives"),
    [(SENT, -10, True), (SENT, -70, False), (PUT_BACK, -10, True), (PUT_BACK, 20, True), (PUT_BACK, 100, False)],
    ids=["sent", "sent-long-ago", "put-back", "put-back-a-little", "put-back-far"],
)
def test_a_mail_that_waits_its_turn_is_not_stuck(stage: Stage, sign: str, seconds: int, lives: bool) -> None:
    """With the mail server down, thousands are overdue behind those that the sender tries."""
    stage.add_mail(stage.command("suspended", SEND), stage.ids["suspended"])
    identifier = stop_the_sender(stage)
    assert found(stage, later_s=120) == {("stuck/mail", identifier)}
    stage.do("correo", sign, at=stage.now() + 120 + seconds)
    assert found(stage, later_s=120) == (set() if lives else {("stuck/mail", identifier)})


def test_a_mail_that_was_due_again_long_ago_is_no_sign_of_life(stage: Stage) -> None:
    """Both wait for a sender that is gone."""
    stage.add_mail(stage.command("suspended", SEND), stage.ids["suspended"])
    identifier = stop_the_sender(stage)
    stage.do("correo", PUT_BACK, at=stage.now() + 120 - OVERDUE_S)
    expected = {("stuck/mail", identifier), ("stuck/mail", stage.command("suspended", SEND))}
    assert found(stage, later_s=120) == expected


def test_live_knows_ids_by_the_real_clock_whatever_offset_a_test_gives(stage: Stage) -> None:
    """Ids are made where no offset is known; by another clock the youngest would be judged."""
    accept_without_a_trace(stage)
    assert found(stage, Scope(live_s=30), later_s=600) == set()


def test_live_leaves_out_what_has_just_moved(stage: Stage) -> None:
    """On a running system a read model is always a moment behind."""
    show_another_outcome(stage)
    assert found(stage, Scope(live_s=3600)) == set()
    assert len(found(stage, Scope(live_s=0))) == 1


def test_live_leaves_out_a_saga_that_moves_however_old_it_is(stage: Stage) -> None:
    """The databases are read one after the other; what moves meanwhile looks wrong in one of them."""
    identifier = spoil("late", "bff", "UPDATE command SET status = 'running' WHERE id = :id", "read")(stage)
    assert found(stage) == {("diverged/command-view", identifier)}
    assert found(stage, Scope(live_s=0)) == set(), "its last move is an hour ahead, by the coordinator's clock"


def test_since_leaves_out_what_was_accepted_before(stage: Stage) -> None:
    """An old defect that is known must not hide a new one."""
    show_another_outcome(stage)
    assert found(stage, Scope(since=time.time() + 1)) == set()
    assert len(found(stage, Scope(since=time.time() - 3600))) == 1


def test_since_knows_what_an_older_saga_has_done_since(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new commands are in the inboxes that are read, and somebody must have issued them."""
    monkeypatch.setattr("pulsaga.operate.verify.scope.MARGIN_S", 0.0)
    since = id_time(stage.command("late", REVOKE)).timestamp()
    assert stage.ids["late"] < first_id(since)
    assert found(stage, Scope(since=since)) == set()


def test_since_takes_an_older_mail_for_a_sign_of_life(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender is alive, whatever it is busy with."""
    monkeypatch.setattr("pulsaga.operate.verify.scope.MARGIN_S", 0.0)
    stage.add_mail(stage.command("suspended", SEND), stage.ids["suspended"])
    scope = Scope(since=id_time(identifier := stop_the_sender(stage)).timestamp())
    assert ("stuck/mail", identifier) in found(stage, scope, later_s=120)
    stage.do("correo", PUT_BACK, at=stage.now() + 110)
    assert ("stuck/mail", identifier) not in found(stage, scope, later_s=120)


def test_since_finds_a_log_whose_row_is_gone(stage: Stage) -> None:
    """Without its row nobody knows when the saga moved last."""
    identifier = lose_the_row(stage)
    assert found(stage, Scope(since=stage.now() - 60)) == {("diverged/snapshot", identifier)}


def test_the_program_writes_nothing_and_leaves_nothing_behind(stage: Stage, tmp_path: Path) -> None:
    """It runs beside a system that works, as often as one likes."""
    (tmp_path / "temporary").mkdir()
    before = contents(stage)
    assert program(stage, TMPDIR=str(tmp_path / "temporary")).returncode == 0
    assert contents(stage) == before
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture
def on_postgresql(tmp_path: Path, postgres: LocalPostgres) -> Stage:
    name = f"t{new_id()[-10:]}"
    environment = postgres.environment() | {"DB_NAME": name, "DB_READ_NAME": f"{name}_read"}
    scene = play(Settings.read({"PROTOOLS_HOME": str(tmp_path), **KEYS, **environment}))
    return Stage.of(scene)


@pytest.mark.postgres
def test_it_reads_postgresql_alike(on_postgresql: Stage) -> None:
    """Ids are UUIDs there, cursors stand on the server, and the role that reads may not write."""
    stage = on_postgresql
    scopes = (Scope(), Scope(live_s=0), Scope(since=time.time() - 3600))
    assert [found(stage, scope) for scope in scopes] == [set(), set(), set()]
    by_hand = (show_another_outcome, drop_a_sent_mail, accept_one_key_twice, hold_two_passwords_of_a_name)
    expected = {(planted.check, planted.plant(stage)) for planted in PLANTS if planted.plant in by_hand}
    assert found(stage) == expected


def program(stage: Stage, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **KEYS, "PROTOOLS_HOME": str(stage.settings.home), **variables}
    command = [sys.executable, "-m", "pulsaga_program", "verify", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_the_program_says_with_its_exit_code_whether_all_is_well(stage: Stage) -> None:
    """It is called by scripts: 0 is well, 1 is a defect, 2 is a question that cannot be asked."""
    assert program(stage, "--live", "--since", "1h").returncode == 0
    identifier = show_another_outcome(stage)
    red = program(stage)
    assert red.returncode == 1
    assert re.search(rf"diverged +command-view +1 .*\n +{identifier}  to show: completed", red.stdout)
    assert re.search(rf"1 defect; {len(stage.ids)} sagas in [0-9.]+ s, [0-9]+ sagas/s", red.stdout)
    wrong = [program(stage, *given).returncode for given in (["--since", "soon"], ["--live", "x"], ["--all"])]
    assert wrong == [2, 2, 2]


def test_the_program_gives_every_id_as_json(stage: Stage) -> None:
    """A table shows the first few; a script needs all of them."""
    for label in ("completed", "again", "revealed", "undone", "refused"):
        spoil(label, "bff", "DELETE FROM command WHERE id = :id", "read")(stage)
    document = orjson.loads(program(stage, "--json").stdout)
    (finding,) = (finding for finding in document["findings"] if finding["isDefect"])
    assert (finding["class"], finding["check"], finding["count"]) == ("diverged", "command-view", 5)
    assert len({entry["id"] for entry in finding["ids"]}) == 5
    assert (document["sagas"], document["defects"]) == (len(stage.ids), 5)


def test_the_program_names_a_database_that_is_not_there_and_does_not_create_it(stage: Stage) -> None:
    """Half an answer would be taken for a whole one."""
    missing = stage.settings.home / "db" / "correo-read.sqlite"
    missing.unlink()
    answer = program(stage)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "correo-read.sqlite is missing" in answer.stderr
    assert not missing.exists()


def test_a_database_that_is_not_there_or_cannot_be_read_is_named(stage: Stage) -> None:
    """Somebody has to mend that one, and the answer without it would be half an answer."""
    broken, missing = (stage.settings.home / "db" / f"{name}.sqlite" for name in ("bff-read", "correo-read"))
    missing.unlink()
    with pytest.raises(Unavailable, match="correo-read.sqlite is missing"):
        found(stage)
    broken.write_bytes(b"no database at all")
    with pytest.raises(Unavailable, match="^bff's read database cannot be read: .*not a database$"):
        verify(SYSTEM, stage.settings, Scope())


@pytest.mark.parametrize("text", ["soon", "2026-01-01T00:00:00", "2w", "-5m", ""])
def test_a_time_that_says_nothing_certain_is_refused(text: str) -> None:
    """A time without its zone would judge other commands elsewhere."""
    with pytest.raises(ValueError) as refused:
        time_of(text)
    assert "T" not in text or str(refused.value) == "a time needs its zone, such as 2026-01-31T12:00:00Z"


def test_a_time_is_rfc_3339_or_a_duration() -> None:
    """Both are what people have at hand."""
    assert time_of("2026-01-01T01:00:00+01:00") == time_of("2026-01-01T00:00:00Z") == 1767225600
    assert time.time() - time_of("2h") == pytest.approx(7200, abs=5)


def contents(stage: Stage) -> list[str]:
    dumps = []
    for path in sorted((stage.settings.home / "db").glob("*.sqlite")):
        connection = sqlite3.connect(path)
        dumps.append("\n".join(connection.iterdump()))
        connection.close()
    return dumps
