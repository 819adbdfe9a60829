"""Run one web process by Flask's own command, for development: `flask --app src/<service> run -p 3000`.

Settings come from the environment, the address from the command line. What a web process does in the background is
done here, too, once: not by the process that only watches files for `--debug`.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click
from flask import Flask
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from pulsaga import values
from pulsaga.delivery.database import open_database
from pulsaga.errors import ProtoolsError, SettingError
from pulsaga.located import the_system
from pulsaga.running.loops import add_background
from pulsaga.running.process import LEAVE_WITHIN_S, Process
from pulsaga.running.runtime import Runtime, open_runtime
from pulsaga.running.telemetry import start_telemetry, stop_telemetry
from pulsaga.settings import Settings


def app_of(service: str) -> Flask:
    """Return the app of a service of the system that is declared, its background at work.

    What keeps it from starting is said in one line.
    """
    try:
        return _started(service, _asked())
    except ProtoolsError as error:
        raise click.ClickException(str(error)) from None


def _asked() -> Mapping[str, Any] | None:
    """Return what `flask run` was asked for; None where Flask only looks at the app, as in `flask routes`.

    Raise SettingError where something else serves it: nobody here knows to whom.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        raise SettingError("BIND_HOST", "is not what counts here: serve it by `protools run`, or by `flask run`")
    return context.params if "host" in context.params else None


def _started(service: str, asked: Mapping[str, Any] | None) -> Flask:
    settings, system = Settings.read(), the_system()
    start_telemetry(system, settings, service, "web")
    if asked:
        settings = replace(settings, bind=_address(asked["host"]))
    runtime = open_runtime(system, settings, service)
    runtime.write.connect().close()  # refuses what cannot keep our promises
    web = system[service].web
    if web is None:
        raise SettingError("FLASK_APP", f"{service} has no web process")
    app = web(runtime, open_database(settings, service, "read", "reader"))
    if asked and not _only_watches(asked):
        _work_in_background(app, runtime)
    return app


def _address(host: str) -> str:
    try:
        return values.address(host)
    except ValueError as error:
        raise SettingError("--host", str(error)) from None


def _only_watches(asked: Mapping[str, Any]) -> bool:
    """Tell whether this process starts another one that serves, and again whenever a file changes."""
    reloads = asked.get("reload")
    return bool(get_debug_flag() if reloads is None else reloads) and not is_running_from_reloader()


def _work_in_background(app: Flask, runtime: Runtime) -> None:
    process = Process()
    add_background(process, app, runtime)
    thread = threading.Thread(target=_run, args=(process,), daemon=True, name="background")
    thread.start()

    def leave() -> None:
        process.end()
        thread.join(LEAVE_WITHIN_S)
        runtime.broker.close()
        stop_telemetry()

    atexit.register(leave)


def _run(process: Process) -> None:
    if not process.run(signals=False):
        os.kill(os.getpid(), signal.SIGINT)  # without its background it would accept what nobody publishes
