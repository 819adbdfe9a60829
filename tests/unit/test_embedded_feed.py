"""Keep Key_Shared in the embedded broker under every order of events."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pulsaga.broker import embedded_feed
from pulsaga.broker.embedded_feed import Consumer, Feed, Given
from pulsaga.broker.embedded_store import Message

KEYS = st.sampled_from("abcd")


class SharedTopic(RuleBasedStateMachine):
    """Publish, acknowledge, join and leave in any order, with windows so small that everything overflows."""

    consumers = Bundle("consumers")

    def __init__(self) -> None:
        super().__init__()
        self.limits = embedded_feed.WINDOW, embedded_feed.LOADED
        embedded_feed.WINDOW, embedded_feed.LOADED = 3, 8
        self.stored: list[Message] = []
        self.acknowledged: set[int] = set()
        self.holding: dict[Consumer, dict[int, Message]] = {}
        self.feed = Feed("t", self._load, subscription=1)

    def teardown(self) -> None:
        embedded_feed.WINDOW, embedded_feed.LOADED = self.limits

    def _load(self, after: int, limit: int) -> list[Message]:
        left = (m for m in self.stored if m.id > after and m.id not in self.acknowledged)
        return list(islice(left, limit))

    @rule(target=consumers)
    def join(self) -> Consumer:
        held: dict[int, Message] = {}
        consumer = Consumer(lambda given: self._pushed(held, given))
        self.holding[consumer] = held
        self.feed.join(consumer)
        self._turn()
        return consumer

    @rule(consumer=consumes(consumers))
    def leave(self, consumer: Consumer) -> None:
        del self.holding[consumer]
        consumer.leave()
        if not self.feed.consumers:  # as the server does: the next consumer begins with what is stored
            self.feed = Feed("t", self._load, subscription=1)
        self._turn()

    @rule(keys=st.lists(KEYS, min_size=1, max_size=6))
    def publish(self, keys: list[str]) -> None:
        begin = len(self.stored) + 1
        messages = [Message(number, key, 1, b"-") for number, key in enumerate(keys, begin)]
        self.stored += messages
        self.feed.arrived(messages)
        self._turn()

    @rule(consumer=consumers, which=st.lists(st.integers(0, 2), min_size=1, max_size=3))
    def acknowledge(self, consumer: Consumer, which: list[int]) -> None:
        held = sorted(self.holding[consumer])
        for number in {held[n] for n in which if n < len(held)}:
            self.acknowledged.add(number)
            del self.holding[consumer][number]
            assert consumer.acknowledge(number)
        consumer.resume()
        self._turn()

    @invariant()
    def a_key_is_with_one_consumer_at_a_time(self) -> None:
        owners = defaultdict(set)
        for consumer, held in self.holding.items():
            for message in held.values():
                owners[message.key].add(consumer)
        assert all(len(consumers) == 1 for consumers in owners.values())

    @invariant()
    def nobody_sees_a_message_before_an_older_one_of_its_key(self) -> None:
        out = {number for held in self.holding.values() for number in held} | self.acknowledged
        waiting: set[str] = set()
        for message in self.stored:
            if message.id not in out:
                waiting.add(message.key)
            assert message.id not in out - self.acknowledged or message.key not in waiting

    @invariant()
    def nothing_waits_while_everybody_has_room(self) -> None:
        if self.holding and all(len(held) < 3 for held in self.holding.values()):
            out = {number for held in self.holding.values() for number in held} | self.acknowledged
            assert out == {message.id for message in self.stored}

    def _pushed(self, held: dict[int, Message], given: list[Given]) -> None:
        held.update({message.id: message for _, message in given})
        assert len(held) <= 3

    def _turn(self) -> None:
        if self.feed.consumers:
            self.feed.hand_out()
        for consumer in self.holding:
            consumer.flush()


SharedTopic.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestSharedTopic = SharedTopic.TestCase
