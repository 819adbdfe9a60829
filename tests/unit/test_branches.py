"""Take steps at once: branches and items, forward and back, stuck, and as they cannot be declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from tests.unit.test_steps import Do, Done, Undo

from pulsaga import DefinitionError, DomainError, Each, ForEach, Parallel, Saga, Sleep, Step, When, command
from pulsaga.saga.engine.moves import advance, start
from pulsaga.saga.engine.turn import Move
from pulsaga.saga.happenings import (
    Action,
    Cancelled,
    Due,
    Failed,
    Happening,
    Operator,
    Outgoing,
    Refused,
    Replied,
    Silent,
)


@dataclass(frozen=True)
class Item:
    name: str
    found: int = 0


@command("s.start")
@dataclass(frozen=True)
class Start:
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Known(Start):
    left: int = 0
    right: int = 0
    sum: int = 0


def step(what: str, *, undo: bool = True, **rest: Any) -> Step[Any]:
    return Step(
        lambda _known: Do(what), undo=(lambda _known, undoes: Undo(undoes)) if undo else None, deadline=60, **rest
    )


def each(*, deadline: float = 60, **rest: Any) -> ForEach[Known, Item]:
    find = Step(
        lambda each: Do(each.item.name),
        undo=lambda _each, undoes: Undo(undoes),
        learn=lambda each, done: replace(each, item=replace(each.item, found=done.n)),
        deadline=deadline,
    )
    return ForEach(lambda known: known.items, lambda item: item.name, [find], **rest)


def saga(*steps: Any) -> Saga[Any]:
    return Saga("any", starts=Start, data=Known, subject=lambda _known: "it", steps=steps)


class Walk:
    """A saga in which several commands wait for their answers; each is called by what it does."""

    def __init__(self, workflow: Saga[Any], *items: str) -> None:
        self.workflow, self.now = workflow, 1000.0
        self.sent: list[Outgoing] = []
        self.kinds: list[str] = []
        self._numbers = count(1)
        known = {"items": [dataclasses.asdict(Item(name)) for name in items]}
        self._take(start(workflow, "saga", known, self.now, self._new_id))

    def _new_id(self) -> str:
        return f"c{next(self._numbers)}"

    def _take(self, move: Move) -> None:
        self.progress, entries, commands = move
        self.kinds += [entry.kind for entry in entries]
        self.sent += commands

    def hear(self, happening: Happening) -> Walk:
        self._take(advance(self.workflow, self.progress, happening, self.now, self._new_id))
        return self

    def id_of(self, what: str) -> str:
        """Return the newest command that does something, or `-` and that, that undoes it."""
        field, value = ("undoes", self.id_of(what[1:])) if what.startswith("-") else ("what", what)
        return next(sent.command_id for sent in reversed(self.sent) if getattr(sent.body, field, "") == value)

    def done(self, *whats: str, n: int = 0) -> Walk:
        for what in whats:
            self.hear(Replied(self.id_of(what), Done(n)))
        return self

    def refused(self, what: str, code: str = "no") -> Walk:
        return self.hear(Refused(self.id_of(what), code, "because"))

    def failed(self, what: str) -> Walk:
        return self.hear(Failed(self.id_of(what), "dead-letter", "boom"))

    def by_hand(self, action: Action) -> Walk:
        return self.hear(Operator(action, "ada", "because"))

    def passes(self, seconds: float) -> Walk:
        self.now += seconds
        return self.hear(Due(("", *self.progress.branches)))

    @property
    def waits_for(self) -> set[str]:
        bodies = {sent.command_id: sent.body for sent in self.sent}
        waiting = [bodies[command_id] for _, command_id in self.progress.awaited.values()]
        return {body.what if isinstance(body, Do) else f"-{bodies[body.undoes].what}" for body in waiting}

    @property
    def status(self) -> str:
        return self.progress.status

    @property
    def known(self) -> Known:
        return self.workflow.load(self.progress.data)


# --- forward


def test_branches_begin_at_once_and_what_comes_next_waits_for_all() -> None:
    """Whichever order the answers come in."""
    for first, second in (("a", "b"), ("b", "a")):
        walk = Walk(saga(Parallel(step("a"), step("b")), step("z")))
        assert walk.waits_for == {"a", "b"}
        assert walk.done(first).waits_for == {second}
        assert walk.done(second).waits_for == {"z"}
        assert walk.done("z").status == "COMPLETED"


def test_a_branch_is_a_sequence_and_may_hold_anything() -> None:
    """Conditions, rests and branches within branches."""
    inner = Parallel(step("c"), [Sleep(10), step("d")])
    walk = Walk(saga(Parallel([step("a"), step("b")], [When(lambda _known: True, [inner])])))
    assert walk.waits_for == {"a", "c"}
    assert walk.passes(10).waits_for == {"a", "c", "d"}
    assert walk.done("a", "c").waits_for == {"b", "d"}
    assert walk.done("d").waits_for == {"b"}
    assert walk.done("b").status == "COMPLETED"
    assert sorted(walk.progress.all_steps) == [
        "0", "0/0/0", "0/0/1", "0/1/0", "0/1/0/then/0", "0/1/0/then/0/0/0", "0/1/0/then/0/1/0", "0/1/0/then/0/1/1",
    ]  # fmt: skip


def test_branches_share_what_the_saga_knows() -> None:
    """Each learns its own fields, and neither forgets those of the other."""
    left = step("a", learn=lambda known, done: replace(known, left=done.n))
    right = step("b", learn=lambda known, done: replace(known, right=done.n))
    walk = Walk(saga(Parallel(left, right), step("z"))).done("a", n=1).done("b", n=2)
    assert (walk.known.left, walk.known.right) == (1, 2)


def test_so_many_items_are_in_hand_at_once() -> None:
    """The next begins when one ends; in the order in which they were listed."""
    walk = Walk(saga(each(at_most=2), step("z")), "p", "q", "r", "s")
    assert walk.waits_for == {"p", "q"}
    assert walk.done("q").waits_for == {"p", "r"}
    assert walk.done("p", "r").waits_for == {"s"}
    assert walk.done("s").waits_for == {"z"}


def test_an_item_learns_about_itself_and_the_saga_from_all_of_them() -> None:
    """So that no answer has to write what all the others know."""
    gather: Callable[[Known, Any], Known] = lambda known, items: replace(known, sum=sum(one.found for one in items))  # noqa: E731
    walk = Walk(saga(each(learn=gather), step("z")), "p", "q").done("q", n=3)
    assert walk.progress.branches["0/q"].data == {"item": {"name": "q", "found": 3}}
    assert walk.known.sum == 0
    assert walk.done("p", n=4).known.sum == 7


def test_an_item_may_learn_nothing_about_the_saga() -> None:
    """Two items would forget what the other has learnt."""
    greedy = Step(
        lambda each: Do(each.item.name),
        learn=lambda each, _done: Each(replace(each.data, sum=1), each.item),
        deadline=60,
    )
    walk = Walk(saga(ForEach(lambda known: known.items, lambda item: item.name, [greedy])), "p")
    with pytest.raises(ValueError, match="any@1, 0/p: a step of a ForEach learns about its item alone"):
        walk.done("p")


def test_items_within_items_know_what_is_around_them() -> None:
    """The inner item is given the outer one as its data."""
    told: list[Any] = []
    spell = Step(lambda each: told.append((each.data.item.name, each.item)) or Do(each.item), deadline=60)

    def list_letters(each: Each[Known, Item]) -> list[str]:
        return list(each.item.name)

    letters = ForEach(list_letters, lambda letter: letter, [spell])
    walk = Walk(saga(ForEach(lambda known: known.items, lambda item: item.name, [letters])), "ab", "c")
    assert told == [("ab", "a"), ("ab", "b"), ("c", "c")]
    assert walk.done("c", "a").waits_for == {"b"}
    assert walk.done("b").status == "COMPLETED"


def test_nothing_to_do_is_done_at_once() -> None:
    """No item, or a thousand that pass over their only step: neither waits, nor is it a thousand calls deep."""
    assert Walk(saga(each(), step("z"))).waits_for == {"z"}
    passed_over = ForEach(
        lambda known: known.items, lambda item: item.name, [When(lambda _each: False, [step("a")])], at_most=1
    )
    assert Walk(saga(passed_over), *map(str, range(1000))).status == "COMPLETED"


@pytest.mark.parametrize("key", ["then", "else", "0", "a/b", "~", "~1", "each", " ", "ä", "x" * 100])
def test_a_key_may_be_any_text(key: str) -> None:
    """It is a part of a path, and people choose it."""
    walk = Walk(saga(each(), step("z")), key, "other").done(key)
    assert walk.waits_for == {"other"}
    assert walk.done("other").refused("z").done(f"-{key}", "-other").status == "COMPENSATED"


@pytest.mark.parametrize(
    ("names", "most", "why"),
    [
        (["p", "q", "p"], 1000, "2 items have the key 'p'"),
        (["p", ""], 1000, "'' is no key of an item: it has 0 characters, not 1 to 100"),
        (["x" * 101], 1000, "it has 101 characters, not 1 to 100"),
        (["p", "q", "r"], 2, "there are 3 items, and 2 at most can be taken"),
        ([f"{n:090}" for n in range(2500)], 3000, "the items take 290000 bytes, and 262144 at most can be kept"),
    ],
    ids=["twins", "empty", "long", "too-many", "too-large"],
)
def test_items_that_cannot_be_taken_are_refused_when_they_are_known(names: list[str], most: int, why: str) -> None:
    """At the start; or where the saga gets to them: what was done before is undone, and the reason names them."""
    with pytest.raises(DomainError, match=why) as no:
        Walk(saga(step("a"), Parallel(each(most=most), step("b"))), *names)
    assert no.value.code == "items"

    def once_learnt(known: Known) -> tuple[Item, ...]:
        return known.items if known.left else ()

    listed = replace(each(most=most), items=once_learnt)
    learns = step("a", learn=lambda known, _: replace(known, left=1))
    walk = Walk(saga(learns, listed), *names).done("a")
    assert walk.waits_for == {"-a"}
    assert walk.progress.reason[0] == "items"
    assert why in walk.progress.reason[1]
    assert walk.done("-a").status == "COMPENSATED"


def test_behind_the_pivot_items_that_cannot_be_taken_wait_for_an_operator() -> None:
    """Who mends the workflow retries the step, and it is asked again."""
    asked: list[list[str]] = [[], ["p", "p"], ["p"]]

    def listed(_known: Known) -> list[str]:
        return asked.pop(0)

    walk = Walk(saga(step("a", undo=False, pivot=True), ForEach(listed, str, [step("x", undo=False)]))).done("a")
    assert (walk.status, walk.progress.reason[0]) == ("SUSPENDED", "items")
    with pytest.raises(DomainError, match="`retry-step` issues it anew"):
        walk.by_hand("resume")
    assert walk.by_hand("retry-step").waits_for == {"x"}
    assert walk.done("x").status == "COMPLETED"


# --- back


def test_branches_are_undone_at_once_each_in_reverse() -> None:
    """What comes after them first, then both, then what came before."""
    walk = Walk(saga(step("m"), Parallel([step("a"), step("b")], step("c")), step("z"))).done("m", "a", "b", "c")
    assert walk.refused("z").waits_for == {"-b", "-c"}
    assert walk.done("-c").waits_for == {"-b"}
    assert walk.done("-b").waits_for == {"-a"}
    assert walk.done("-a").waits_for == {"-m"}
    assert walk.done("-m").status == "COMPENSATED"


def test_items_are_undone_so_many_at_once_and_only_those_that_began() -> None:
    """`at_most` spares the receiver on the way back, too."""
    walk = Walk(saga(each(at_most=2)), "p", "q", "r", "s").done("p")
    assert walk.refused("q").waits_for == {"-p", "-r"}
    assert walk.done("-r", "-p").status == "COMPENSATED"
    assert not [sent for sent in walk.sent if sent.body == Do("s")]
    walk = Walk(saga(each(at_most=2), step("z")), "p", "q", "r").done("p", "q", "r").refused("z")
    assert walk.waits_for == {"-p", "-q"}
    assert walk.done("-p").waits_for == {"-q", "-r"}


def test_failing_fast_undoes_what_is_under_way() -> None:
    """The answer that comes late changes nothing: it is undone already."""
    walk = Walk(saga(Parallel(step("a"), step("b")))).refused("a")
    assert (walk.status, walk.waits_for) == ("COMPENSATING", {"-b"})
    walk.done("b")
    assert walk.kinds[-1] == "late"
    assert walk.done("-b").status == "COMPENSATED"


def test_waiting_lets_the_others_end_and_begins_no_more() -> None:
    """One refusal, and nobody is left half-way."""
    walk = Walk(saga(each(at_most=2, fail="wait")), "p", "q", "r").refused("p", "sold-out")
    assert (walk.status, walk.waits_for) == ("RUNNING", {"q"})
    walk.done("q")
    assert (walk.status, walk.progress.reason[0], walk.waits_for) == ("COMPENSATING", "sold-out", {"-q"})


def test_what_fails_within_what_is_waited_for_is_waited_for() -> None:
    """Failing fast gives up all of the saga, which a branch around it does not want."""
    walk = Walk(saga(Parallel(Parallel(step("a"), step("b")), step("c"), fail="wait"))).refused("a")
    assert (walk.status, walk.waits_for) == ("RUNNING", {"b", "c"})
    assert walk.done("b").waits_for == {"c"}
    assert walk.done("c").waits_for == {"-b", "-c"}


def test_an_answer_to_a_branch_that_has_failed_leads_nowhere() -> None:
    """It was given up on at its deadline; what it has done is undone with the rest."""
    walk = Walk(saga(Parallel([step("a"), step("x")], [Sleep(120), step("b")], fail="wait"))).passes(60)
    assert walk.kinds[-1] == "branch-failed"
    assert walk.done("a").waits_for == set()
    assert walk.passes(60).done("b").waits_for == {"-a", "-b"}
    assert walk.progress.reason[0] == "timed-out"


def test_a_cancel_reaches_every_branch() -> None:
    """Those that rest, those that wait, those that have ended."""
    walk = Walk(saga(Parallel(step("a"), [step("b"), Sleep(60)], step("c")))).done("b", "c").hear(Cancelled("ada"))
    assert walk.waits_for == {"-a", "-b", "-c"}
    assert walk.done("-a", "-b", "-c").status == "COMPENSATED"


def test_branches_with_nothing_to_undo_are_passed_over() -> None:
    """However many there are, none is looked at."""
    walk = Walk(saga(step("m"), Parallel(step("a", undo=False), step("b", undo=False)), step("z"))).done("m", "a", "b")
    assert walk.refused("z").waits_for == {"-m"}
    assert "going-back" not in walk.kinds


# --- in front of an operator


def test_a_branch_that_is_stuck_holds_up_no_other() -> None:
    """The saga is suspended until somebody acts, and the others go on as far as they can."""
    walk = Walk(saga(Parallel([step("a"), step("b")], [step("c"), step("d")]), step("z"))).failed("a")
    assert (walk.status, walk.progress.stuck) == ("SUSPENDED", 1)
    assert walk.done("c").waits_for == {"a", "d"}
    assert walk.done("d").by_hand("retry-step").status == "RUNNING"
    assert walk.done("a", "b").waits_for == {"z"}


def test_several_branches_that_are_stuck_are_helped_together() -> None:
    """Each by what helps it: asked again under its id, or anew."""
    walk = Walk(saga(step("m", undo=False, pivot=True), Parallel(step("a", undo=False), step("b", undo=False))))
    walk.done("m").failed("a").passes(60)
    assert (walk.status, walk.progress.stuck) == ("SUSPENDED", 2)
    was = walk.id_of("a"), walk.id_of("b")
    assert (walk.by_hand("resume").status, walk.progress.stuck) == ("SUSPENDED", 1)
    assert (walk.id_of("a"), walk.id_of("b")) == was
    with pytest.raises(DomainError, match="answered for good"):
        walk.by_hand("resume")
    assert walk.by_hand("retry-step").status == "RUNNING"
    assert walk.id_of("a") != was[0]
    assert walk.done("a", "b").status == "COMPLETED"


def test_a_saga_with_a_branch_that_is_stuck_may_be_given_up() -> None:
    """What failed may have been done, so it is undone."""
    walk = Walk(saga(Parallel(step("a"), step("b")))).failed("a").by_hand("compensate")
    assert (walk.waits_for, walk.progress.stuck) == ({"-a", "-b"}, 0)
    assert walk.failed("-b").status == "SUSPENDED"
    assert walk.done("-a").by_hand("retry-step").done("-b").status == "COMPENSATED"


def test_silence_in_one_branch_is_broken_there() -> None:
    """Under the same id, and its deadline stays."""
    walk = Walk(saga(Parallel(step("a"), step("b"))))
    before = walk.progress.branches["0/0"], walk.progress.branches["0/1"]
    walk.now += 5
    walk.hear(Silent("0/1"))
    assert [sent.body for sent in walk.sent] == [Do("a"), Do("b"), Do("b")]
    after = walk.progress.branches["0/0"], walk.progress.branches["0/1"]
    assert after[0] == before[0]
    assert (after[1].wake_at, after[1].sent_at) == (before[1].wake_at, walk.now)


# --- what cannot be declared


def test_branches_that_cannot_be_taken_are_refused_where_they_are_written() -> None:
    """A workflow is wrong before its first saga."""
    for wrong in (lambda: Parallel(step("a")), lambda: Parallel(step("a"), [])):
        with pytest.raises(ValueError, match="two branches or more, each of one step or more"):
            wrong()
    with pytest.raises(ValueError, match="without steps does nothing"):
        ForEach(lambda known: known.items, str, [])
    with pytest.raises(ValueError, match="at_most 0"):
        each(at_most=0)


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([Parallel(step("a"), [step("b"), step("c", pivot=True)])], "step 1, branch 2, step 2"),
        ([step("a"), ForEach(lambda known: known.items, str, [step("c", pivot=True)])], "step 2, each, step 1"),
    ],
    ids=["branch", "item"],
)
def test_a_pivot_stands_in_no_branch(steps: list[Any], where: str) -> None:
    """A saga is past it or not: half of it cannot be."""
    with pytest.raises(DefinitionError, match=f"workflow any, {where}: every saga has to pass the pivot"):
        saga(*steps)


def test_items_say_of_what_type_they_are() -> None:
    """The log keeps them as JSON, and gives back what the steps were written for."""

    def untold(_known: Known):  # type: ignore[no-untyped-def]
        return []

    with pytest.raises(DefinitionError, match="of what type the items are is not said; annotate what it returns"):
        saga(ForEach(untold, str, [step("a")])).check_data()

    def odd(_known: Known) -> list[complex]:
        return []

    with pytest.raises(DefinitionError, match=r"workflow any, step 1: an item of .*complex.*: a saga's log cannot"):
        saga(ForEach(odd, str, [step("a")])).check_data()


# --- what is in hand


def test_only_what_was_learnt_is_logged_of_many_items() -> None:
    """A thousand of them would be in the log again with each answer."""
    walk = Walk(saga(step("a", learn=lambda known, done: replace(known, left=done.n)), each()), "p", "q")
    entries: list[Any] = []
    take = walk._take
    walk._take = lambda move: (entries.extend(move[1]), take(move))[1]  # type: ignore[method-assign]
    walk.done("a", n=7)
    (learnt,) = (entry.data for entry in entries if entry.kind == "replied")
    assert learnt == {"left": 7, "right": 0, "sum": 0}, "these were not known before"
    assert walk.known.left == 7


@dataclass(frozen=True)
class Loose(Start):
    """Data that a function can change in place."""

    names: list[str] = dataclasses.field(default_factory=list)


def test_what_a_function_changes_in_place_is_nobody_elses() -> None:
    """It is careless, and still no other saga, and no later step, may see it."""

    def careless(known: Loose) -> Do:
        known.names.append("x")
        return Do(f"{len(known.names)}")

    careless_steps = [Step(careless, deadline=60), Step(careless, deadline=60)]
    workflow = Saga("any", starts=Start, data=Loose, subject=lambda _known: "it", steps=careless_steps)
    walk = Walk(workflow)
    assert walk.waits_for == {"1"}
    assert walk.done("1").waits_for == {"1"}
