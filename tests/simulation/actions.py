"""List what may happen in a schedule: each action does one thing and returns True, or has nothing to do."""

from __future__ import annotations

from collections.abc import Callable

from tests.service.wishes import wish
from tests.simulation.faults import Kind, Plan
from tests.simulation.world import NAMES, World

from pulsaga.delivery.messages import Context
from pulsaga.errors import Unavailable
from pulsaga.web.front_door import acceptance
from pulsaga.web.front_door.commands import cancelling
from system import SYSTEM

MAIL_FAULTS: tuple[Kind, ...] = ("die", "stall", "hang-up")
JUMPS_S = {1.0: 6, 6.0: 10, 31.0: 5, 61.0: 3, 1200.0: 2, 7200.0: 1}
"""Seconds that may pass at once, with how often; the last two are beyond deadlines."""
DUTIES = {
    "publisher": 12,
    "sender": 10,
    "wake-ups": 5,
    "re-sending": 5,
    "failures": 4,
    "sweep": 3,
    "outbox": 1,
    "expiry": 1,
    "guesses": 1,
    "resets": 1,
    "sessions": 1,
    "silence": 1,
    "webhooks": 1,
}
"""How often a duty gets its turn among the others."""


def deliver(world: World) -> bool:
    """Give some process a batch."""
    ready = [(r, pair) for r in world.running() for pair in r.consumers if pair[0].open_lanes()]
    if not ready:
        return False
    replica, (consumer, settle) = world.random.choice(ready)
    world.take(replica, consumer, settle, world.random.choice((1, 1, 2, 5)))
    return True


def duty(world: World) -> bool:
    """Give some duty its turn, one that was woken before the others."""
    pairs = [(r, name, work) for r in world.running() for name, work in r.duties.items()]
    if not pairs:
        return False
    weights = [100 if name in r.woken else DUTIES[name] for r, name, _ in pairs]
    replica, name, work = world.random.choices(pairs, weights)[0]
    replica.woken.discard(name)
    if name == "sender" and world.plan and not world.busy:
        world.plan = Plan(world.random.choice(MAIL_FAULTS), world.random.choice(("mail", "mail taken")), 1)
    world.do(replica, name, work)
    return True


def accept(world: World) -> bool:
    """Ask the front door for the next password."""
    fronts = [r for r in world.running() if r.service.name == "bff"]
    if world.asked == len(NAMES) or not fronts:
        return False
    replica, name = world.random.choice(fronts), NAMES[world.asked]
    number, write = world.asked, world.disks.engines["bff", "write"]
    request = wish(name, f"{name}@x.test", body_hash=name, idempotency_key=f"k{number}")

    def ask() -> None:
        acceptance.accept(replica.transactions, write, request)
        replica.woken.add("publisher")
        world.asked = max(world.asked, number + 1)  # heard `202`; till then the client asks under the same key

    world.do(replica, f"accepts {name}", ask)
    return True


def cancel(world: World) -> bool:
    """Have the caller think better of a command."""
    fronts = [r for r in world.running() if r.service.name == "bff"]
    accepted = world.disks.of("bff").rows("SELECT id, subject FROM acceptance ORDER BY id")
    if not accepted or not fronts:
        return False
    replica, (identifier, name) = world.random.choice(fronts), world.random.choice(accepted)
    context, read = Context(identifier, actor="nobody"), world.disks.engines["bff", "read"]
    world.do(
        replica,
        f"cancels {name}",
        lambda: cancelling.cancel(replica.transactions, read, context, SYSTEM.sagas.cancel(identifier), name),
    )
    replica.woken.add("publisher")
    return True


def let_time_pass(world: World) -> bool:
    """Let the clock jump."""
    world.pass_time(world.random.choices(list(JUMPS_S), list(JUMPS_S.values()))[0])
    return True


def redeliver(world: World) -> bool:
    """Deliver again what was acknowledged."""
    feed = world.random.choice(list(world.memory.feeds.values()))
    if not feed.acked:
        return False
    stored = world.random.choice(feed.acked)
    world.note(f"again: {stored.topic}:{stored.key[-4:]}")
    feed.put_back([stored])
    return True


def reconnect(world: World) -> bool:
    """Have a consumer's messages come back."""
    consumers = [consumer for r in world.replicas for consumer, _ in r.consumers if consumer.held]
    if not consumers:
        return False
    world.note("a consumer loses its connection")
    return world.random.choice(consumers).reconnect()


def poison(world: World) -> bool:
    """Have the next message of a service fail."""
    service = world.random.choice(("generador", "correo", "protools_saga", "protools_saga"))
    error = world.random.choice((RuntimeError("poison"), RuntimeError("poison"), Unavailable("elsewhere")))
    world.poison = service, error
    world.note(f"the next message of {service} raises {error!r}")
    return True


def change(world: World) -> bool:
    """Take something down, or have it back."""
    choice = world.random.choice(("broker", "mail", *SYSTEM.names))
    if choice == "broker":
        world.memory.is_up = not world.memory.is_up
    elif choice == "mail":
        world.mails.mood = world.random.choice(("up", "down", "busy"))
    elif choice in world.stopped:
        world.stopped.remove(choice)
    elif not any(name.startswith(choice) for name in world.busy):
        world.stopped.add(choice)
        for replica in world.replicas:
            if replica.service.name == choice:
                replica.start()
    world.note(f"broker {world.memory.is_up}, mail {world.mails.mood}, stopped {sorted(world.stopped)}")
    return True


ACTIONS: dict[Callable[[World], bool], float] = {
    deliver: 60,
    duty: 25,
    accept: 8,
    let_time_pass: 5,
    redeliver: 4,
    reconnect: 4,
    poison: 3,
    change: 1.5,
    cancel: 0.7,
}
"""What may happen, with how often."""
