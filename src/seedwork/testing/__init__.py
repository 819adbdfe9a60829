"""The test kit: conversations with a workflow, without broker, database or waiting."""

from pulsaga.testing.conversations import Conversation, Sent, given

__all__ = ["Conversation", "Sent", "given"]
