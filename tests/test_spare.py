"""Few processes and threads allowed (`ulimit -u`, a container): the work is done with fewer, or refused in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cohorts import without_environment

from segcli.cohort import engine, spare
from segcli.cohort.work import Plan, Task
from segcli.masks.reading import Reading

ROOT = Path(__file__).parent.parent
#: A user who runs nothing else: the limit counts all that a user runs. Root is not bound by it.
NOBODY = "64321"
#: It may read what root reads, as Python may lie in root's home: another right than that to start processes.
ACT = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
READ = ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "+dac_read_search"]
READ += ["--bounding-set", "-all,+dac_read_search"]

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to act as a user without other processes",
)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Return a folder of that user's, with four pairs."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    for side in ("pred", "gt"):
        (folder / side).mkdir()
        for i in range(4):
            mask = np.zeros((12, 12), np.uint8)
            mask[2 : 8 + i // 2, 2 : 8 + (side == "pred")] = 1
            np.save(folder / side / f"{i}.npy", mask)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, int(NOBODY), int(NOBODY))
    yield folder
    shutil.rmtree(folder)


def limited(place: Path, processes: int, *call: str) -> subprocess.CompletedProcess[str]:
    """Run segcli as a user who may have so many processes and threads, its own first one among them."""
    known = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    word = f"import resource; resource.setrlimit(resource.RLIMIT_NPROC, ({processes}, {processes})); "
    word += "from segcli.cli.main import main; main()"
    command = [sys.executable, "-c", word, "--isolated", *call]
    for rights in (READ, []):
        reached = subprocess.run([*ACT, *rights, sys.executable, "-c", "import segcli"], env=known, check=False,
                                 capture_output=True)  # fmt: skip
        if reached.returncode == 0:
            _wait_until_nothing_runs()
            return subprocess.run(
                [*ACT, *rights, *command], env=known | {"PYTHONDONTWRITEBYTECODE": "1"}, cwd=place,
                capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
    pytest.skip("this Python cannot be reached by another user")


def _wait_until_nothing_runs() -> None:
    """Wait for what earlier calls of that user left: it counts."""
    for _ in range(100):
        owners = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    owners.append(entry.stat().st_uid)
                except OSError:
                    continue
        if int(NOBODY) not in owners:
            return
        time.sleep(0.05)


@needs_root
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_one_process_scores(place: Path, processes: int) -> None:
    done = limited(place, processes, "score", "pred/0.npy", "gt/0.npy", "-f", "csv")
    assert done.returncode == 0, done.stderr
    assert "dice" in done.stdout
    assert "Traceback" not in done.stderr
    assert "OpenBLAS" not in done.stderr


@needs_root
def test_workers_are_as_many_as_can_be(place: Path) -> None:
    """The same run, whatever the limit; what is done with fewer is said, with -q too."""
    said = {}
    for processes in (1, 2, 4, 5, 6, 8, 9, 11, 100):
        out = place / f"{processes}.json"
        done = limited(place, processes, "-q", "evaluate", "pred", "gt", "-j", "2", "-o", str(out))
        assert done.returncode == 0, done.stderr
        said[processes] = done.stderr
        assert without_environment(out) == without_environment(place / "1.json")
    assert said[1] == said[2] == said[4]
    assert said[1].startswith("warning: no worker process can be started")
    assert said[1].count("\n") == 1
    assert said[9].startswith("warning: 1 worker process instead of 2: no more can be started")
    assert said[100] == ""


@needs_root
@pytest.mark.parametrize("processes", [2, 8, 12])
def test_dask_is_refused(place: Path, processes: int) -> None:
    pytest.importorskip("distributed")
    done = limited(place, processes, "evaluate", "pred", "gt", "-j", "1", "--engine", "dask")
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    assert "--engine dask: it takes 16 more threads and processes" in lines[0]


def test_what_can_be_started_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    assert spare.startable(5) == 5
    assert threading.active_count() == before
    start, allowed = threading.Thread.start, iter(range(3))

    def limited_start(thread: threading.Thread) -> None:
        if next(allowed, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited_start)
    assert spare.startable(5) == 3
    assert threading.active_count() == before


def tasks(place: Path, count: int) -> list[Task]:
    np.save(place / "a.npy", np.eye(6, dtype=np.uint8))
    return [Task(str(i), str(place / "a.npy"), str(place / "a.npy")) for i in range(count)]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_worker_that_does_not_start_loses_no_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Somebody else of the same user may take what was free a moment ago."""
    handed, calls = engine._handed, iter(range(1, 100))

    def submit(*arguments: object) -> object:
        if next(calls) == failing:
            raise engine.CannotStartError
        return handed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "_handed", submit)
    told: list[str] = []
    plan = Plan(("metric.dice",), (), Reading())
    found = list(engine.run_pool(plan, tasks(tmp_path, 5), 2, told.append))
    assert sorted(task.case for task, _ in found) == list("01234")
    assert all(record["values"][0]["value"] == 1 for _, records in found for record in records)
    assert len(told) == 1
    assert told[0].startswith("no worker process can be started")


def test_library_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segcli.cohort.collecting import Engine

    monkeypatch.setattr(engine, "startable", lambda _: 0)
    with pytest.warns(RuntimeWarning, match="no worker process can be started"):
        assert len(list(Engine(jobs=2).run(Plan(("metric.dice",), (), Reading()), tasks(tmp_path, 2)))) == 2


@pytest.mark.parametrize("call", [["score", "a.npy", "a.npy"], ["evaluate", ".", ".", "-j", "2"]], ids=str)
def test_a_small_address_space_is_refused(tmp_path: Path, call: list[str]) -> None:
    """Libraries that do not get their memory hang or end the process, with 1, which is a broken gate."""
    resource = pytest.importorskip("resource")
    np.save(tmp_path / "a.npy", np.eye(6, dtype=np.uint8))
    bound = lambda: resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))
    done = subprocess.run(
        [sys.executable, "-m", "segcli", *call], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=bound,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: the address space is limited to 300 MiB")
