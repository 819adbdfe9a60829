"""Write the conversations that are not kept yet; a kept one is never touched."""

from __future__ import annotations

import json
import sys

from tests.golden.conversations import CONVERSATIONS, FOLDER, record, workflow_of

from pulsaga.saga.log import FORMAT

for name, said in CONVERSATIONS.items():
    path = FOLDER / f"{name}.v{FORMAT}.json"
    if not path.exists():
        path.write_text(json.dumps(record(workflow_of(name), said), indent=1) + "\n")
        sys.stdout.write(f"{path.name}\n")
