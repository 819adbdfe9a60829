"""Tell over gRPC (grpc.health.v1) whether sessions can be opened and looked up: whether the database answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from sqlalchemy import Engine, select

from usuarios.sessions.answers import bound
from usuarios.sessions.tables import sesion

LOOK_EVERY_S = 1.0
LOOK_WITHIN_S = 2.0


class Health(HealthServicer):
    """The health of the server and of its services, by their names; it does not serve before its first good look."""

    def __init__(self, read: Engine, services: Sequence[str]) -> None:
        super().__init__()
        self._read, self._services = read, services
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._look: Future[bool] | None = None
        self._stopping = threading.Event()
        self._is_serving: bool | None = None
        self._tell(is_serving=False)

    def run(self) -> None:
        """Look every LOOK_EVERY_S seconds until `stop`; a look that takes longer than LOOK_WITHIN_S counts as none."""
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Look once; one that hangs is waited for, not begun again."""
        self._look = self._look or self._pool.submit(self._is_answering)
        done = wait([self._look], LOOK_WITHIN_S).done
        self._tell(is_serving=bool(done) and self._look.result())
        if done:
            self._look = None

    def _is_answering(self) -> bool:
        try:
            with self._read.begin() as tx:
                bound(tx.execute, self._read.dialect.name, time.monotonic() + LOOK_WITHIN_S)
                tx.execute(select(sesion.c.jti).limit(1))
        except Exception:  # whatever it is, the answer is no
            return False
        return True

    def _tell(self, *, is_serving: bool) -> None:
        if is_serving is self._is_serving:
            return
        self._is_serving = is_serving
        status = HealthCheckResponse.SERVING if is_serving else HealthCheckResponse.NOT_SERVING
        for name in self._services:
            self.set(name, status)

    def stop(self) -> None:
        """Look no more; from now on nothing is served."""
        self._stopping.set()
        self.enter_graceful_shutdown()
        self._pool.shutdown(wait=False, cancel_futures=True)
