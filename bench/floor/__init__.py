"""Do what Protools does in straight-line code without a framework: what this machine can do is the floor.

The same messages (topics, registered schemas, CloudEvents properties, Avro, keys) and the same rows, in batches of one
or two round trips: begin, inbox and state; all writes and commit. Only the good way is walked: nothing is tried again.
"""

from bench.floor.contestant import Floor

__all__ = ["Floor"]
