"""Spoil a system at rest. A plant returns the checks of which one must see it, none where it found no place."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import orjson
from sqlalchemy import Table, delete, insert, select, update
from tests.verify.lab import Lab

from pulsaga.delivery.messages import new_id
from pulsaga.delivery.tables import dead_letter, event, inbox, incident, outbox
from pulsaga.saga.tables import saga, saga_branch, saga_branch_view, saga_move, saga_view, slot
from pulsaga.web.front_door.tables import acceptance, command, command_move

Plant = Callable[[Lab, Random], set[str]]


def drop(lab: Lab, chance: Random, service: str, side: Any, table: Table, *conditions: Any) -> bool:
    """Delete one row that meets the conditions; tell whether there was one."""
    with lab.engine(service, side) as engine, engine.begin() as tx:
        rows = tx.execute(select(table).where(*conditions)).mappings().all()
        if not rows:
            return False
        row = chance.choice(rows)
        tx.execute(delete(table).where(*(column == row[column.name] for column in table.primary_key.columns)))
    return True


def add(lab: Lab, service: str, table: Table, **row: Any) -> None:
    """Write one row."""
    with lab.engine(service, "write") as engine, engine.begin() as tx:
        tx.execute(insert(table).values(**row))


def rows(lab: Lab, service: str, table: Table, side: Any = "write") -> list[Any]:
    """Read a table."""
    with lab.engine(service, side) as engine, engine.connect() as connection:
        return list(connection.execute(select(table)).mappings())


def ids(lab: Lab, service: str, table: Table) -> list[str]:
    """Read the ids of a table."""
    return [row["id"] for row in rows(lab, service, table)]


def answered(lab: Lab, service: str) -> list[str]:
    """Return the commands that a service answered, without those that lie in its dead letters too."""
    told = [row for row in rows(lab, service, event) if not row["type"].endswith(".command-failed")]
    return [row["answers"] for row in told if row["answers"]]


def replies_of_completed(lab: Lab) -> list[str]:
    """Return the commands whose answers completed a saga."""
    ended = [row for row in lab.coordinator.rows(saga) if row["status"] == "COMPLETED"]
    return [step["command_id"] for row in ended for step in orjson.loads(row["progress"])["steps"]]


def a_service(lab: Lab, chance: Random) -> str:
    """Choose one of the services that do the work."""
    return chance.choice(lab.system.services).name


def door(lab: Lab) -> str:
    """Return the front door's name."""
    assert lab.system.door is not None
    return lab.system.door.name


# --- what is lost


def forget_a_beginning(lab: Lab, chance: Random) -> set[str]:
    begun = inbox.c.id.in_(ids(lab, lab.system.name, saga))
    return {"orphaned/saga"} if drop(lab, chance, lab.system.name, "write", inbox, begun) else set()


def forget_a_reply(lab: Lab, chance: Random) -> set[str]:
    known = ids(lab, a_service(lab, chance), event)
    return {"lost/reply"} if drop(lab, chance, lab.system.name, "write", inbox, inbox.c.id.in_(known)) else set()


def forget_a_command(lab: Lab, chance: Random) -> set[str]:
    name = a_service(lab, chance)
    handled = inbox.c.hash.is_not(None) & inbox.c.id.in_(answered(lab, name))
    return {"lost/handled-command"} if drop(lab, chance, name, "write", inbox, handled) else set()


def lose_an_answer(lab: Lab, chance: Random) -> set[str]:
    of_completed = event.c.answers.in_(replies_of_completed(lab))
    return (
        {"orphaned/known-answer"} if drop(lab, chance, a_service(lab, chance), "write", event, of_completed) else set()
    )


def lose_an_acceptance(lab: Lab, chance: Random) -> set[str]:
    begun = acceptance.c.id.in_(ids(lab, lab.system.name, saga))
    return {"orphaned/saga"} if drop(lab, chance, door(lab), "write", acceptance, begun) else set()


def lose_what_was_accepted(lab: Lab, _chance: Random) -> set[str]:
    named = {"type": "x", "subject": "x", "actor": "shop", "body_hash": ""}
    add(
        lab,
        door(lab),
        acceptance,
        id=new_id(),
        created_at=lab.coordinator.runtime.transactions.run(lambda u: u.now),
        **named,
    )
    return {"lost/accepted-command"}


def lose_what_was_to_be_sent(lab: Lab, chance: Random) -> set[str]:
    is_command = ~outbox.c.topic.startswith(f"{lab.system.name}.")
    return {"lost/issued-command"} if drop(lab, chance, lab.system.name, "write", outbox, is_command) else set()


def lose_work(lab: Lab, chance: Random) -> set[str]:
    name = a_service(lab, chance)
    work = lab.system[name].tables.tables["work"]
    return {"lost/work"} if drop(lab, chance, name, "write", work, work.c.state == "done") else set()


# --- what diverges


def lose_a_saga(lab: Lab, chance: Random) -> set[str]:
    return {"diverged/snapshot"} if drop(lab, chance, lab.system.name, "write", saga) else set()


def lose_a_branch(lab: Lab, chance: Random) -> set[str]:
    return {"diverged/snapshot"} if drop(lab, chance, lab.system.name, "write", saga_branch) else set()


def show_no_branch(lab: Lab, chance: Random) -> set[str]:
    return {"diverged/saga-view"} if drop(lab, chance, lab.system.name, "read", saga_branch_view) else set()


def lose_a_move(lab: Lab, chance: Random) -> set[str]:
    of_saga = event.c.type.endswith(".saga-moved")
    drop(lab, chance, lab.system.name, "write", event, of_saga)
    return {"diverged/snapshot"}


def skip_a_move(lab: Lab, chance: Random) -> set[str]:
    row = chance.choice(lab.coordinator.rows(saga))
    with lab.engine(lab.system.name, "write") as engine, engine.begin() as tx:
        tx.execute(update(saga).where(saga.c.id == row["id"]).values(seq=row["seq"] + 1))
    return {"diverged/snapshot"}


def hold_a_slot(lab: Lab, chance: Random) -> set[str]:
    row = chance.choice(lab.coordinator.rows(saga))
    named = {"id": f"{row['id']}/9", "saga_id": row["id"], "path": "9", "limit_key": "scarce"}
    add(lab, lab.system.name, slot, **named, revision=1, state=chance.choice(["held", "waiting"]), at=0.0)
    return {"diverged/slot"}


def show_no_saga(lab: Lab, chance: Random) -> set[str]:
    table = chance.choice([saga_view, saga_move])
    return {"diverged/saga-view"} if drop(lab, chance, lab.system.name, "read", table) else set()


def show_no_command(lab: Lab, chance: Random) -> set[str]:
    begun = command.c.id.in_(ids(lab, lab.system.name, saga))
    return {"diverged/command-view"} if drop(lab, chance, door(lab), "read", command, begun) else set()


def forget_a_move(lab: Lab, chance: Random) -> set[str]:
    begun = command_move.c.id.in_(ids(lab, lab.system.name, saga))
    return {"diverged/command-moves"} if drop(lab, chance, door(lab), "read", command_move, begun) else set()


# --- what nobody asked for, or was told of


def handle_what_nobody_issued(lab: Lab, chance: Random) -> set[str]:
    name = a_service(lab, chance)
    add(lab, name, inbox, id=new_id(), consumer=name, hash=b"", at=0.0)
    return {"orphaned/handled-command"}


def work_unasked(lab: Lab, chance: Random) -> set[str]:
    name = a_service(lab, chance)
    work = lab.system[name].tables.tables["work"]
    add(lab, name, work, id=new_id(), revision=1, state="done", context="{}")
    return {"orphaned/work"}


def suspend_in_silence(lab: Lab, chance: Random) -> set[str]:
    suspended = (incident.c.kind == "suspended") & incident.c.closed_at.is_(None)
    return {"stuck/suspended-in-silence"} if drop(lab, chance, lab.system.name, "write", incident, suspended) else set()


def bury_in_silence(lab: Lab, chance: Random) -> set[str]:
    of_letter = (incident.c.kind == "dead-letter") & incident.c.closed_at.is_(None)
    return {"dead/in-silence"} if drop(lab, chance, a_service(lab, chance), "write", incident, of_letter) else set()


def lose_a_letter(lab: Lab, chance: Random) -> set[str]:
    return {"orphaned/incident"} if drop(lab, chance, a_service(lab, chance), "write", dead_letter) else set()


PLANTS: tuple[Plant, ...] = (
    forget_a_beginning,
    forget_a_reply,
    forget_a_command,
    lose_an_answer,
    lose_an_acceptance,
    lose_what_was_accepted,
    lose_what_was_to_be_sent,
    lose_work,
    lose_a_saga,
    lose_a_branch,
    lose_a_move,
    skip_a_move,
    hold_a_slot,
    show_no_saga,
    show_no_branch,
    show_no_command,
    forget_a_move,
    handle_what_nobody_issued,
    work_unasked,
    suspend_in_silence,
    bury_in_silence,
    lose_a_letter,
)
