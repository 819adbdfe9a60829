"""Run the whole system as one that is reached from outside: on every address, asking who is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.system.conftest import Mode
from tests.system.harness import System, eventually

SECRET = "correct horse battery staple, 32 bytes and more"


def bearer(system: System, role: str, subject: str) -> dict[str, str]:
    """Issue a token by the command line."""
    done = system.run("token", "issue", "--role", role, "--subject", subject)
    assert done.returncode == 0, done.stderr
    return {"Authorization": f"Bearer {done.stdout.strip()}"}


@pytest.mark.slow
def test_a_system_that_asks_who_is_there_may_be_reached_from_outside(embedded_mode: Mode, tmp_path: Path) -> None:
    """With a secret BIND_HOST may be any; from the front door to the coordinator each sees what its role may."""
    outside = {"AUTH": "", "JWT_SECRET": SECRET, "BIND_HOST": "0.0.0.0"}
    with embedded_mode.running(tmp_path, **outside) as system:
        who = (("caller", "shop"), ("caller", "rival"), ("reader", "boss"))
        shop, rival, boss = (bearer(system, *one) for one in who)
        assert system.post("/passwords", {"username": "ada"}).status == 401
        answer = system.post("/passwords", {"username": "ada"}, Prefer="wait=20", **shop)
        assert answer.status == 201, answer
        place = answer.headers["Location"]
        assert [system.get(place, **one).status for one in (shop, rival, boss, {})] == [200, 404, 200, 401]
        saga = f"/sagas/{place.rpartition('/')[2]}"
        assert eventually(lambda: system.get(saga, "protools_saga", **boss).json).get("actor") == "shop"
        assert system.get(saga, "protools_saga", **shop).status == 403
        assert "nobody is asked" not in system.log.read_text()
