"""Take one guard away, from outside: a pytest plugin that CONTROL_ARM names the guard for. `src/` has no such switch.

For every promise DESIGN names one mechanism. Each entry of ARMS replaces one by something that does not guard, and
names the tests that must go red then. `python -m tests.faults.control_arms` runs them with and without.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import tests.service.desk
from sqlalchemy import text

import correo.handlers
from pulsaga.delivery import messages
from pulsaga.delivery.dispatch import dispatcher, failures, worker
from pulsaga.delivery.outbox import Outbox, RestingTopics
from pulsaga.delivery.tables import Seen
from pulsaga.delivery.transaction import rows, unit_of_work
from pulsaga.saga import coordinator, moving
from pulsaga.saga.engine import turn
from pulsaga.web import formats
from pulsaga.web.front_door import acceptance
from pulsaga.web.front_door.commands import waiting
from pulsaga.web.front_door.overload import admission, load
from pulsaga.web.serving import connection, server


@dataclass(frozen=True)
class Arm:
    """Name a guard, what it promises, how to take it away, and the tests that see it missing."""

    promise: str
    take_away: Callable[[], None]
    tests: tuple[str, ...]


def _replace(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


def _no_inbox() -> None:
    """Remember nothing, and so know nothing."""
    uow = unit_of_work.UnitOfWork
    uow.remember = lambda self, identifier, digest: None  # type: ignore[method-assign]


def _ack_first() -> None:
    settle = worker.Worker.settle

    def acknowledge_then_settle(self: Any, batch: Any) -> None:
        self._subscription.ack(batch)
        settle(self, batch)

    worker.Worker.settle = acknowledge_then_settle  # type: ignore[method-assign]


def _no_outbox() -> None:
    """Write everything but what is to be said; say it after the commit only."""
    append = unit_of_work.UnitOfWork.append

    def all_but_outbox(self: Any, table: Any, row: Any) -> None:
        if table.name != "outbox":
            append(self, table, row)

    unit_of_work.UnitOfWork.append = all_but_outbox  # type: ignore[method-assign]


def _clear_before_confirmation() -> None:
    publish = Outbox.publish

    def clear_then_publish(self: Any, wires: Any) -> None:
        self.confirm([wire.properties["ce_id"] for wire in wires])
        self.clear()
        publish(self, wires)

    Outbox.publish = clear_then_publish  # type: ignore[method-assign]


def _no_revision_check() -> None:
    rows.CONDITIONS["if-unchanged"] = "1 = 1"


def _no_claim() -> None:
    """Let a sender report on mails that another one has claimed since."""

    class Unclaimed(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return "anybody's" if key == "claim" else super().__getitem__(key)

    load = unit_of_work.UnitOfWork.get
    unit_of_work.UnitOfWork.get = lambda self, table, key: (  # type: ignore[method-assign]
        Unclaimed(row) if (row := load(self, table, key)) is not None and table.name == "mail" else row
    )
    claim = correo.handlers.Sender._claim
    correo.handlers.Sender._claim = lambda self, uow, reported=(): [  # type: ignore[method-assign]
        Unclaimed(row) for row in claim(self, uow, reported)
    ]


def _without_sql(*statements: str) -> Callable[[], None]:
    """Let every desk's database lose a constraint or trigger after its migrations."""

    def take_away() -> None:
        make = tests.service.desk.make_desk

        def make_unguarded(*arguments: Any, **named: Any) -> Any:
            desk = make(*arguments, **named)
            for statement in _for(desk, statements):
                with desk.runtime.write.begin() as tx:
                    tx.execute(text(statement))
            return desk

        tests.service.desk.make_desk = make_unguarded

    return take_away


def _for(desk: Any, statements: tuple[str, ...]) -> Iterator[str]:
    dialect = desk.runtime.write.dialect.name
    if desk.service.name == "protools_saga":
        yield from (s for s in statements if ("ON saga" in s) == (dialect == "postgresql") or "DROP" not in s)


def _no_tombstone() -> None:
    remember = unit_of_work.UnitOfWork.remember

    def remember_commands_only(self: Any, identifier: str, digest: bytes | None) -> None:
        if digest is not None:
            remember(self, identifier, digest)

    unit_of_work.UnitOfWork.remember = remember_commands_only  # type: ignore[method-assign]


def _new_id_on_retry() -> None:
    """Ask a silent target again under an id that it does not know."""
    log = turn.Turn.log

    def log_anew(self: Any, kind: Any, path: str = "", **values: Any) -> None:
        if values.get("attempt", 0) > 1:
            values["command_id"] = self.new_id()
        log(self, kind, path, **values)

    turn.Turn.log = log_anew  # type: ignore[method-assign]


def _no_undo() -> None:
    """Keep what a failing message had buffered."""
    unit_of_work.UnitOfWork.drop = lambda self: None  # type: ignore[method-assign]


def _no_fold() -> None:
    dispatcher.Dispatcher._fold = lambda self, batch, uow: list(batch)  # type: ignore[method-assign]


def _no_hash() -> None:
    """Take any body for the one that was seen under this id."""
    seen = unit_of_work.UnitOfWork.seen

    class Anything(bytes):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = bytes.__hash__

    def seen_as_anything(self: Any, identifier: str) -> Seen | None:
        known = seen(self, identifier)
        return Seen(Anything(known.hash), known.reply) if known and known.hash else known

    unit_of_work.UnitOfWork.seen = seen_as_anything  # type: ignore[method-assign]


def _engine_takes_any_reply() -> None:
    turn.Turn.awaits = lambda self, path: True  # type: ignore[method-assign]


def _never_expires() -> None:
    messages.Message.expires_at = property(lambda self: None, lambda self, value: None)  # type: ignore[assignment,misc]


def _count_outages() -> None:
    failures.Failures.wait = failures.Failures.fail  # type: ignore[method-assign,assignment]


def _no_idempotency_key() -> None:
    append = acceptance._append

    def append_without_key(uow: Any, request: Any) -> Any:
        return append(uow, replace(request, idempotency_key=None))

    acceptance._append = append_without_key


def _no_lock_of_the_limit() -> None:
    """Let coordinators give turns under one limit beside each other."""
    load = unit_of_work.UnitOfWork.load

    def load_others(self: Any, wanted: Any) -> None:
        load(self, [(table, key) for table, key in wanted if getattr(table, "name", "") != "slot_limit"])

    unit_of_work.UnitOfWork.load = load_others  # type: ignore[method-assign]


BRANCHES, LIMITS, TOKENS = (f"tests/verify/test_{name}.py" for name in ("branches", "limits", "tokens"))
WORKER, ORDER = "tests/service/test_worker.py", "tests/service/test_delivery_order.py"
ADMISSION = "tests/service/test_admission.py"
SAGA, LATE, LESSONS = "tests/unit/test_saga.py", "tests/service/test_late.py", "tests/service/test_lessons.py"

ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "inbox": Arm(
            "the same message again does no work",
            _no_inbox,
            (
                f"{WORKER}::test_the_same_command_again_does_no_work_and_its_stored_reply_goes_out_again",
                f"{ORDER}::test_what_was_committed_and_not_acknowledged_is_done_once",
            ),
        ),
        "inbox-hash": Arm(
            "the same id with another body is refused",
            _no_hash,
            (f"{WORKER}::test_the_same_id_with_another_body_is_refused_with_an_incident",),
        ),
        "fold-twins": Arm(
            "twins in one batch are answered once",
            _no_fold,
            (f"{ORDER}::test_twins_that_come_together_are_answered_once",),
        ),
        "ack-after-commit": Arm(
            "what was not committed is delivered again",
            _ack_first,
            (f"{ORDER}::test_what_was_not_committed_is_not_acknowledged",),
        ),
        "outbox-in-transaction": Arm(
            "what was committed is said",
            _no_outbox,
            (f"{ORDER}::test_what_was_committed_and_not_said_is_said_by_the_sweep",),
        ),
        "outbox-until-confirmed": Arm(
            "what the broker did not confirm is said again",
            _clear_before_confirmation,
            (f"{WORKER}::test_what_the_broker_did_not_confirm_stays_in_the_outbox_for_the_sweep",),
        ),
        "revision": Arm(
            "two workers cannot write the same row from the same past",
            _no_revision_check,
            (f"{WORKER}::test_a_rival_that_changed_a_row_first_makes_the_batch_run_again",),
        ),
        "sender-claim": Arm(
            "a sender that lost its claim cannot report",
            _no_claim,
            (f"{LESSONS}::test_a_sender_that_lost_its_claim_cannot_finish",),
        ),
        "terminal-trigger": Arm(
            "the database refuses to leave a terminal status",
            _without_sql("DROP TRIGGER saga_end_is_final", "DROP TRIGGER saga_end_is_final ON saga"),
            (f"{WORKER}::test_the_database_refuses_to_leave_a_terminal_status",),
        ),
        "terminal-engine": Arm(
            "a saga that has ended or gives up takes no more answers",
            _engine_takes_any_reply,
            (
                f"{SAGA}::test_the_same_reply_twice_changes_nothing",
                f"{SAGA}::test_a_success_after_giving_up_is_logged_as_late_and_left_to_its_compensation",
            ),
        ),
        "branch-wakes": Arm(
            "a branch wakes its saga when its own time has come",
            _replace(moving, "_wake_at", lambda _uow, progress, _before: progress.wake_at),
            (f"{BRANCHES}::test_a_branch_wakes_its_saga_when_its_own_time_has_come",),
        ),
        "child-tells": Arm(
            "the end of a child moves its parent on",
            _replace(moving.Moving, "_tell_parent", lambda self, *_, **__: False),
            (f"{BRANCHES}::test_a_child_ends_and_its_parent_goes_on",),
        ),
        "limit-lock": Arm(
            "a limit holds with any number of coordinators",
            _no_lock_of_the_limit,
            (f"{LIMITS}::test_nobody_gives_turns_between_what_another_counts_and_chooses",),
        ),
        "bearer": Arm(
            "nobody signals with another's token, or with none",
            _replace(coordinator.Coordinator, "_check_bearer_of", lambda self, *_: None),
            (f"{TOKENS}::test_nobody_else_may_signal",),
        ),
        "token-of-the-command": Arm(
            "a command that is sent again brings the same token",
            _replace(moving, "token_of", lambda _key, _command_id: secrets.token_urlsafe(32)),
            (f"{TOKENS}::test_a_command_that_is_sent_again_brings_the_same_token_and_a_new_one_another",),
        ),
        "tombstone": Arm(
            "an undo that overtakes its command refuses it later",
            _no_tombstone,
            (f"{WORKER}::test_a_compensation_that_comes_first_leaves_a_tombstone_that_refuses_the_command",),
        ),
        "command-id-on-retry": Arm(
            "a command that is sent again is the same command",
            _new_id_on_retry,
            (f"{SAGA}::test_silence_sends_the_same_command_again_under_its_id",),
        ),
        "undo-of-one-message": Arm(
            "a failing message spoils nothing of its neighbours and leaves nothing of itself",
            _no_undo,
            (f"{WORKER}::test_one_message_that_fails_among_a_hundred_is_kept_alone",),
        ),
        "outages-uncounted": Arm(
            "an outage is never counted against a message",
            _count_outages,
            (f"{WORKER}::test_an_outage_behind_a_handler_is_waited_for_and_never_counted",),
        ),
        "expiry": Arm(
            "a command that is too old is refused",
            _never_expires,
            (f"{WORKER}::test_an_expired_command_is_refused_with_an_incident",),
        ),
        "forgetting": Arm(
            "what the inbox may have forgotten is refused",
            _replace(dispatcher, "first_id", lambda _at: ""),
            ("tests/service/test_forgetting.py::test_an_id_that_may_be_forgotten_is_refused_and_nothing_is_done",),
        ),
        "idempotency-key": Arm(
            "the same request again is the same command",
            _no_idempotency_key,
            ("tests/service/test_bff.py::test_twins_that_race_become_one_command",),
        ),
        "admission": Arm(
            "what could not end in time is refused",
            _replace(load.Load, "admit", lambda self, now, returning: True),
            (
                "tests/unit/test_load.py::test_three_times_the_capacity_ends_in_time_and_at_full_speed",
                f"{ADMISSION}::test_a_command_is_refused_before_its_body_is_read",
            ),
        ),
        "turn": Arm(
            "who comes back when told goes before who is new",
            _replace(admission.Admission, "_is_turn", lambda self, cookies: False),
            (f"{ADMISSION}::test_who_comes_back_in_turn_goes_before_who_is_new",),
        ),
        "threads-kept-free": Arm(
            "health and reads find a thread while every command is stuck",
            _replace(server, "THREADS_OF_RANK", (server.THREADS,) * 3),
            (f"{ADMISSION}::test_health_and_reads_find_a_thread_while_every_command_is_stuck",),
        ),
        "waiters-rest": Arm(
            "who waits for a saga holds nobody's place at work",
            _replace(waiting, "resting", nullcontext),
            (
                "tests/service/test_server.py::test_two_hundred_wait_in_one_process_and_nobody_else_does",
                "tests/service/test_server.py::test_streams_that_have_nothing_to_say_hold_nobody_up",
            ),
        ),
        "blame": Arm(
            "an error that nobody expected blames one message and stops no other",
            _replace(worker, "verdict", lambda _error: "wait"),
            (
                "tests/service/test_delivery_order.py::test_an_error_that_nobody_expected_stops_neither_the_loop_nor_the_batch",
            ),
        ),
        "resting-topics": Arm(
            "a topic that takes nothing holds up no other",
            _replace(RestingTopics, "tried", lambda self, took, refused: None),
            (
                "tests/service/test_neighbours.py::test_a_topic_that_takes_no_messages_is_asked_once_and_the_others_go_on",
            ),
        ),
        "document-type": Arm(
            "a document type is refused before the parser knows of it",
            _replace(formats, "_stop_at_the_root", lambda _body, _charset: None),
            ("tests/unit/test_formats.py::test_xml_with_a_dtd_or_an_entity_is_unreadable",),
        ),
        "slow-clients-cut": Arm(
            "who drips a request or an answer is cut",
            _replace(connection.Connection, "look", lambda self, now: None),
            ("tests/service/test_slow_clients.py::test_slow_clients_are_cut_however_they_drip",),
        ),
    }
)


def pytest_configure() -> None:
    """Take away the guard that CONTROL_ARM names."""
    if name := os.environ.get("CONTROL_ARM"):
        ARMS[name].take_away()
