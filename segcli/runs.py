"""Reading runs: a run file, or stdin for `-`, as a checked document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from segcli.errors import InputError

SCHEMA = "segcli.run/1"


def load_run(source: str | Path) -> dict[str, Any]:
    """Return the run of a file, or of stdin for `-`; raises `InputError` for anything else than a run."""
    where = "stdin" if str(source) == "-" else str(source)
    try:
        found = json.loads(sys.stdin.read() if where == "stdin" else Path(source).read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError(f"{where}: cannot be read ({problem.strerror}).", code="run.read") from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise InputError(
            f"{where}: is no run ({SCHEMA}).",
            hint="segcli evaluate PRED_DIR GT_DIR -o RUN.json writes one",
            code="run.schema",
        )
    return found
