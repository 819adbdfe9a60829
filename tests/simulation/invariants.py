"""Say what must hold after every step, whatever has happened."""

from __future__ import annotations

from collections import defaultdict

from tests.simulation.broker import Memory
from tests.simulation.disks import Disks
from tests.simulation.mails import MailServer
from tests.simulation.replicas import CODEC

from pulsaga.delivery.avro import versions_of
from pulsaga.delivery.messages import contract_of
from pulsaga.delivery.tables import hash_of, unpack
from pulsaga.saga.log import ACTIVE, TERMINAL, Entry, Progress, fold
from pulsaga.saga.snapshots import entries_of, load_progress
from system import SYSTEM

SCHEMA = versions_of(contract_of(SYSTEM.sagas.moved))[-1]


class Invariants:
    """Follow the logs from step to step."""

    def __init__(self, disks: Disks, memory: Memory, mails: MailServer) -> None:
        self._disks, self._memory, self._mails = disks, memory, mails
        self._read = dict.fromkeys(SYSTEM.names, 0)
        self._folded: dict[str, Progress] = {}
        self._suspensions: dict[str, int] = defaultdict(int)

    def wrong(self, what: str) -> None:
        """Report what must never be."""
        raise AssertionError(what)

    def expect(self, holds: bool, what: str) -> None:
        """Report a promise that does not hold."""
        if not holds:
            self.wrong(what)

    def check(self) -> None:
        """Look at everything that was written since the last time."""
        for service in SYSTEM.names:
            self._check_said(service)
        self._check_sagas()
        self._check_passwords()
        for letters in self._mails.taken.values():
            self.expect(len(set(letters)) == 1, "one mail was sent in two versions")

    def _check_said(self, service: str) -> None:
        disk = self._disks.of(service)
        waiting = {identifier for (identifier,) in disk.rows("SELECT id FROM outbox")}
        query = "SELECT rowid, id, type, version, aggregate, wire FROM event WHERE rowid > ? ORDER BY rowid"
        for rowid, identifier, kind, version, aggregate, packed in disk.rows(query, self._read[service]):
            self._read[service] = rowid
            said = identifier in waiting or identifier in self._memory.bodies
            self.expect(said, f"{kind} {identifier} is neither published nor in the outbox")
            if kind == contract_of(SYSTEM.sagas.moved).name:
                moved = CODEC.decode(SYSTEM.sagas.moved, unpack(packed).body, SCHEMA)
                self._follow(aggregate, version, moved.workflow, entries_of(moved))
        for identifier, digest in disk.rows("SELECT id, hash FROM inbox WHERE hash IS NOT NULL"):
            body = self._memory.bodies.get(identifier)
            self.expect(body is None or hash_of(body) == digest, f"the inbox knows another body of {identifier}")

    def _follow(self, saga_id: str, version: int, workflow: str, entries: list[Entry]) -> None:
        before = self._folded.get(saga_id, Progress(saga_id, workflow))
        self._folded[saga_id] = after = fold(before, entries)
        self.expect(version == after.seq, f"move {version} of {saga_id} follows {before.seq}")
        unchanged = before.status not in TERMINAL or after.status == before.status
        self.expect(unchanged, f"{saga_id} left {before.status} for {after.status}")
        self._suspensions[saga_id] += sum(entry.kind == "suspended" for entry in entries)
        for path, step in before.steps.items():
            later = after.steps[path]
            kept = step.command_id in ("", later.command_id) and step.undo_id in ("", later.undo_id)
            self.expect(kept, f"{saga_id} sent one command under two ids")

    def _check_sagas(self) -> None:
        disk = self._disks.of("protools_saga")
        rows = disk.rows("SELECT id, status, wake_at, progress FROM saga")
        self.expect({row[0] for row in rows} == self._folded.keys(), "there are sagas without a log, or the reverse")
        for saga_id, status, wake_at, progress in rows:
            folded = self._folded[saga_id]
            same = load_progress({"progress": progress}) == folded and status == folded.status
            self.expect(same, f"the row of {saga_id} is not the fold of its log")
            self.expect((status in ACTIVE) == (wake_at is not None), f"{saga_id} is {status} and waits for ever")
        counted = dict(disk.rows("SELECT subject, count(*) FROM incident WHERE kind = 'suspended' GROUP BY subject"))
        for saga_id, number in self._suspensions.items():
            self.expect(counted.get(saga_id, 0) == number, f"{saga_id} was suspended without an incident")

    def _check_passwords(self) -> None:
        disk = self._disks.of("generador")
        tombstones = {identifier for (identifier,) in disk.rows("SELECT id FROM inbox WHERE hash IS NULL")}
        query = "SELECT username, saga_id, command_id FROM password WHERE status IN ('issued', 'revealed')"
        for username, saga_id, command_id in disk.rows(query):
            saga = self._folded.get(saga_id)
            undone = saga is not None and saga.status == "COMPENSATED"
            self.expect(not undone, f"the password of {username} outlived its compensated saga {saga_id}")
            self.expect(command_id not in tombstones, f"the password of {username} was made by a withdrawn command")
