"""Run the real services under one seeded scheduler: any order, any fault, then heal and see that everything ends."""

from __future__ import annotations

from tests.simulation.actions import ACTIONS, accept
from tests.simulation.ends import check_ends, next_due, unfinished
from tests.simulation.faults import SEAMS, Broken, Kind, Plan, replaced, simulated
from tests.simulation.world import World

import correo.handlers

FAULTS: tuple[Kind, ...] = ("die", "die", "die", "stall", "stall", "refuse", "unheard", "cut", "ack-lost", "hang-up")
ROUNDS = 200
"""Turns that everything gets to end once nothing goes wrong any more."""

LONG = 400
"""Lines of a trace that are told, beside the last fifty."""


class Simulation(World):
    """One schedule, from its beginning to its end."""

    def run(self) -> None:
        """Let everything go wrong for a while, then nothing; raise Broken with the trace."""
        time = simulated(lambda: self.now, self.chance, self.waited)
        postman = replaced(correo.handlers, "open_postman", lambda _settings: self.mails)
        with time, postman:
            try:
                self._schedule()
            except Exception as error:
                raise Broken(self._told(error)) from error

    def _schedule(self) -> None:
        self.begin()
        for _ in range(self.random.randint(60, 120)):
            self.step += 1
            self._turn()
            self.invariants.check()
        self.plan, self.stopped = None, set()
        while accept(self):
            continue
        self._heal()
        check_ends(self.disks, self.memory, self.mails)

    def _told(self, error: Exception) -> str:
        again = f"make simulate SEEDS=1 START={self.seed}"
        steps = self.trace if len(self.trace) < LONG else [*self.trace[:LONG], "...", *self.trace[-50:]]
        return "\n".join([*steps, f"seed {self.seed}: {type(error).__name__}: {error}", f"again: {again}"])

    def _turn(self) -> None:
        self.now += self.random.random() * 0.2
        self.plan = None
        if self.random.random() < 0.6:
            kind = self.random.choice(FAULTS)
            self.plan = Plan(kind, self.random.choice(SEAMS.get(kind, ("",))), self.random.choice((1, 1, 1, 2)))
        self.act()
        self.plan = None

    def act(self) -> None:
        """Let one thing happen."""
        while not self.random.choices(list(ACTIONS), list(ACTIONS.values()))[0](self):
            continue

    # --- the end

    def _heal(self) -> None:
        self.note("everything heals")
        self.plan, self.poison, self.poisoned = None, None, {}
        self.memory.is_up, self.mails.mood = True, "up"
        for consumers in self.memory.consumers.values():
            for consumer in consumers:
                consumer.reconnect()
        for _ in range(ROUNDS):
            self.step += 1
            self._fair_round()
            if not (rest := unfinished(self.disks, self.memory)):
                return
            self.now = next_due(self.disks, self.now)
        self.invariants.wrong(f"after {ROUNDS} healthy rounds there is still {rest}")

    def _fair_round(self) -> None:
        for replica in self.replicas:
            for name, work in replica.duties.items():
                self.do(replica, name, work)
        for _ in range(ROUNDS):
            ready = [(r, pair) for r in self.replicas for pair in r.consumers if pair[0].open_lanes()]
            if not ready:
                break
            for replica, (consumer, settle) in ready:
                if consumer.open_lanes():
                    self.take(replica, consumer, settle, 100)
                    self.invariants.check()
        for replica in self.replicas:
            self.do(replica, "outbox", replica.transactions.outbox.clear)
