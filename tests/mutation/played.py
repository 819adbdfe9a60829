"""Play the scene of the verifier's tests once, in the process that all mutants are forked from (a pytest plugin)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tests.service.scene
from tests.service.desk import KEYS

from pulsaga.settings import Settings

SCENE = tests.service.scene.play(Settings.read({"PROTOOLS_HOME": tempfile.mkdtemp(dir=Path.cwd()), **KEYS}))
tests.service.scene.play = lambda _settings: SCENE
