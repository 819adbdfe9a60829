"""Keep the home folder to its owner: databases, keys, mails, logs and the broker's socket lie in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pulsaga.errors import SettingError

OURS = frozenset({"broker", "db", "faults", "keys", "logs", "mail", "postgres", "pulsar", "up"})
"""How what we make in the home folder is called, up to the first dot; what else lies there is left as it is."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PASS_THROUGH = 0o711
"""Of a folder that holds another user's, such as PostgreSQL's under root: one may go through it, not look into it."""


def keep_private(home: Path) -> None:
    """Make the home folder if it is missing, and take from everybody else what an older release had left open."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        entries = list(os.scandir(home))
    except OSError as error:
        raise SettingError("PROTOOLS_HOME", f"{home} cannot be made or read: {error.strerror}") from None
    ours = [entry for entry in entries if entry.name.partition(".")[0] in OURS]
    others = _close(ours)
    if len(ours) == len(entries):  # a folder that is shared with something else is not ours to close
        _close_folder(home, others=others)


def _close(entries: Iterable[os.DirEntry[str]]) -> bool:
    """Close files and folders that are this user's; return whether another user has some among them."""
    others = False
    for entry in entries:
        with suppress(FileNotFoundError, PermissionError):  # the system may be running; not every disk knows modes
            mode, owner = (found := entry.stat(follow_symlinks=False)).st_mode, found.st_uid
            if owner != os.geteuid():
                others = True
            elif stat.S_ISDIR(mode):
                within = _close(os.scandir(entry))
                _close_folder(Path(entry), others=within)
                others |= within
            elif mode & OTHERS and not stat.S_ISLNK(mode):
                Path(entry).chmod(stat.S_IMODE(mode) & ~OTHERS)
    return others


def _close_folder(folder: Path, *, others: bool) -> None:
    with suppress(PermissionError):
        folder.chmod(PASS_THROUGH if others else stat.S_IRWXU)
