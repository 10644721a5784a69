"""Cohorts in real processes: workers that are killed, drivers that are killed, full disks, signals, Dask."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cohorts import cohort, process, same_runs, segcli, without_environment

from segcli.cohort.journal import Journal, journal_path

CASES = 16
MEASURES = ("-m", "dice,hd95")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a cohort and its undisturbed run."""
    where = tmp_path_factory.mktemp("data")
    cohort(where, CASES, shape=(64, 60, 56))
    done = process("evaluate", where / "pred", where / "gt", *MEASURES, "-o", where / "whole.json", "-j1")
    assert done.returncode == 0, done.stderr
    return where


def heeding_ctrl_c() -> None:
    """Undo what a shell does to a job in the background: it ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(data: Path, out: Path, *more: str, **options: object) -> subprocess.Popen[str]:
    """Start an evaluation that goes on by itself."""
    call = [sys.executable, "-m", "segcli", "evaluate", data / "pred", data / "gt", *MEASURES, "-o", out, *more]
    return subprocess.Popen(
        [str(part) for part in call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding_ctrl_c,  # noqa: PLW1509 (no threads here)
        **options,
    )


def lines(out: Path) -> int:
    """Return how many cases are in the journal."""
    journal = Path(f"{out}.journal")
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def workers(driver: int) -> list[int]:
    """Return the process ids of a driver's workers: the children of its fork server."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    children = [pid for pid, parent in parents.items() if parent == driver]
    return [pid for pid, parent in parents.items() if parent in children]


# --- every way is the same run ---------------------------------------------------------------------------


def test_jobs_and_order_change_nothing(data, tmp_path):
    """One process, two, three shards of two: the same text but for `environment`."""
    two = tmp_path / "two.json"
    assert process("evaluate", data / "pred", data / "gt", *MEASURES, "-o", two, "-j2").returncode == 0
    assert same_runs(data / "whole.json", data / "whole.json")
    whole, ours = without_environment(data / "whole.json"), without_environment(two)
    for run, folder in ((whole, data), (ours, tmp_path)):
        for case in run["cases"]:
            for side in ("pred", "gt"):
                case[side]["path"] = str((folder / case[side]["path"]).resolve())
    assert json.dumps(whole) == json.dumps(ours)


#: Measures of sums over voxels, of distances, and those that asked a BLAS for sums once.
OF_PROBABILITIES = (
    "-m", "dice,hd95,brier,log_loss,auc,ece",
    "-l", "bce,focal,brier,mcc,mae,dice,topk,hd_dt,unified_focal,lovasz,lovasz_hinge,shape_aware,cmssl,cldice",
    "--kind", "probability",
)  # fmt: skip


def maps(where: Path, cases: int = 5) -> Path:
    """Write pairs of a probability map and its gt, and a copy of the first map."""
    rng = np.random.default_rng(1)
    for side in ("pred", "gt"):
        (where / side).mkdir(parents=True)
    for i in range(cases):
        gt = np.zeros((24, 70), np.uint8)
        gt[5 : 14 + i, 4:40] = 1
        np.save(where / "pred" / f"c{i}.npy", np.clip(gt * 0.7 + 0.3 * rng.random(gt.shape), 0, 1).astype(np.float32))
        np.save(where / "gt" / f"c{i}.npy", gt)
    shutil.copy(where / "pred/c0.npy", where / "copy.npy")
    return where


def test_no_number_depends_on_what_the_process_did_before(tmp_path):
    """One process, two, shards, a resumed run and the library: the same text but for `environment`.

    The first case of a process was summed another way than the others: 1 to 3 units in the last place.
    """
    data = maps(tmp_path)
    asked = ["evaluate", "pred", "gt", *OF_PROBABILITIES]

    def done(*more: object) -> None:
        made = process(*asked, *more, cwd=data)
        assert made.returncode == 0, made.stderr

    done("-o", "one.json", "-j1")
    done("-o", "two.json", "-j2")
    for k in (1, 2):
        done("-o", f"s{k}.json", "-j1", "--shard", f"{k}/2")
    merged = process("evaluate", "--merge", "s1.json", "s2.json", "-o", "merged.json", cwd=data)
    assert merged.returncode == 0, merged.stderr
    code = (
        "import json, segcli\n"
        f"run = segcli.evaluate('pred', 'gt', metrics={OF_PROBABILITIES[1]!r}, losses={OF_PROBABILITIES[3]!r}, "
        "kind='probability', jobs=1)\n"
        "json.dump(run.to_dict(), open('library.json', 'w'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=data)
    assert same_runs(*(data / f"{name}.json" for name in ("one", "two", "merged", "library")))
    journal = Path(f"{data / 'resumed.json'}.journal")
    going = subprocess.Popen(
        [sys.executable, "-m", "segcli", *asked, "-o", "resumed.json", "-j1"],
        cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: going.poll() is not None or (journal.exists() and journal.read_bytes().count(b"\n") >= 3))
    going.kill()
    going.wait()
    if journal.exists():  # else it was done before it could be killed
        done("-o", "resumed.json", "-j1", "--resume")
    assert same_runs(data / "one.json", data / "resumed.json")


def test_equal_predictions_are_ranked_equal(tmp_path):
    """A copy, byte for byte, has the value of its original in every digit, and its place in every ranking."""
    data = maps(tmp_path)
    losses = OF_PROBABILITIES[3]
    done = process(
        "compare", "pred/c0.npy", "copy.npy", "pred/c1.npy", "gt/c0.npy", "--kind", "probability", "-l", losses,
        "--rank-by", "hd95", "-f", "json", cwd=data,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [sorted(next(place for place in r["order"] if "copy.npy" in place)) for r in found["rankings"]] == [
        ["copy.npy", "pred/c0.npy"]
    ] * (1 + losses.count(",") + 1)
    rows = {(r["pred"], r["measure"]): {**r, "pred": ""} for r in found["rows"]}
    assert all(rows["copy.npy", m] == rows["pred/c0.npy", m] for pred, m in rows if pred == "copy.npy")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [1, 6])
def test_a_stopped_run_goes_on_where_it_was(data, tmp_path, sent, after):
    """Killed or interrupted after some cases, at whatever they were doing: --resume gives the undisturbed run."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "r.json"
    driver = start(tmp_path, out, "-j2")
    until(lambda: lines(out) >= after)
    driver.send_signal(sent)
    stdout, stderr = driver.communicate(timeout=30)
    assert driver.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
    assert stdout == ""
    assert not out.exists()
    kept = lines(out)
    if sent != signal.SIGKILL:
        assert re.search(rf"note: \d+ of {CASES} cases are done and kept: --resume goes on", stderr)
        assert stderr.splitlines()[-1] in ("error: interrupted.", "error: terminated.")
        assert "Traceback" not in stderr
    refused = process("evaluate", tmp_path / "pred", tmp_path / "gt", *MEASURES, "-o", out)
    assert (refused.returncode, "--resume" in refused.stderr) == (2, True)
    again = process("evaluate", tmp_path / "pred", tmp_path / "gt", *MEASURES, "-o", out, "-j2", "--resume")
    assert again.returncode == 0, again.stderr
    assert f"{kept} case{'s' * (kept != 1)} taken from the journal" in again.stderr
    assert same_runs(out, data / "whole.json")


@LINUX
def test_workers_end_with_their_driver(data, tmp_path):
    """After kill -9 of the driver no worker is left waiting for work that never comes."""
    out = tmp_path / "r.json"
    driver = start(data, out, "-j2")
    until(lambda: lines(out) >= 2)
    pids = workers(driver.pid)
    assert pids
    driver.kill()
    driver.communicate(timeout=30)
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids), 20)


# --- workers that die ----------------------------------------------------------------------------------------


@LINUX
def test_a_killed_worker_costs_nothing(data, tmp_path):
    """Its case is run again in a new worker: the run is the undisturbed one."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "r.json"
    driver = start(tmp_path, out, "-j2")
    until(lambda: lines(out) >= 3)
    os.kill(workers(driver.pid)[0], signal.SIGKILL)
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 0, stderr
    assert same_runs(out, data / "whole.json")


@LINUX
def test_a_case_that_kills_every_worker_is_an_error_row(data, tmp_path):
    """A worker that dies of one case dies of it again when it is alone: all others are scored."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "r.json"
    manifest = tmp_path / "m.csv"
    names = sorted(path.name for path in (tmp_path / "gt").iterdir())
    manifest.write_text("case,pred,gt\n" + "".join(f"{n[:-4]},pred/{n},gt/{n}\n" for n in names))
    call = [sys.executable, "-c", KILLER, "evaluate", "--manifest", manifest, *MEASURES, "-o", out, "-j2"]
    done = subprocess.run([str(part) for part in call], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 4, done.stderr
    run = without_environment(out)
    assert [(e["case"], e["code"]) for e in run["errors"]] == [("case_005", "worker.killed")]
    whole = without_environment(data / "whole.json")
    assert run["cases"] == [case for case in whole["cases"] if case["case"] != "case_005"]
    # The error is kept, and tried again when asked.
    again = process("evaluate", "--manifest", manifest, *MEASURES, "-o", out, "-j2", "--retry-errors")
    assert again.returncode == 0, again.stderr


#: A driver whose workers die of one case, as they would of a reader that crashes.
KILLER = """
import os, sys
import segcli.cohort.engine as engine
from segcli.cli.main import run

sys.path.insert(0, os.environ["DEADLY"])
import deadly

engine.score_task = deadly.score_task
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def deadly_module(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put where workers can import it a `score_task` that kills its process at case_005."""
    where = tmp_path_factory.mktemp("deadly")
    (where / "deadly.py").write_text(
        "import os, signal\n"
        "from segcli.cohort.work import score_task as score\n"
        "def score_task(plan, task):\n"
        "    if task.case == 'case_005':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return score(plan, task)\n"
    )
    monkeypatch.setenv("DEADLY", str(where))


# --- the disk --------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_is_done(data, tmp_path):
    """The journal cannot grow: exit 2 with the way out, whole lines only; with room --resume gives the run."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "r.json"
    call = f'ulimit -f 8; exec "{sys.executable}" -m segcli evaluate pred gt {" ".join(MEASURES)} -o r.json -j1'
    done = subprocess.run(["bash", "-c", call], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "r.json.journal: cannot be written (File too large)" in done.stderr
    assert "make room and --resume" in done.stderr
    kept = lines(out)
    assert 0 < kept < CASES
    assert Path(f"{out}.journal").read_bytes().endswith(b"\n")
    again = process("evaluate", "pred", "gt", *MEASURES, "-o", "r.json", "-j1", "--resume", cwd=tmp_path)
    assert (again.returncode, f"{kept} cases taken" in again.stderr) == (0, True)
    assert same_runs(out, data / "whole.json")


def test_a_folder_that_cannot_be_written_is_told_first(data, tmp_path):
    """Before anything is scored."""
    if os.geteuid() == 0:
        target = Path("/proc/r.json")  # nobody may write there, root neither
    else:
        (tmp_path / "ro").mkdir(mode=0o500)
        target = tmp_path / "ro/r.json"
    done = process("evaluate", data / "pred", data / "gt", *MEASURES, "-o", target)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written" in done.stderr


def test_two_runs_do_not_write_one_journal(data, tmp_path):
    """The second is refused while the first holds it."""
    out = tmp_path / "r.json"
    call = ["evaluate", data / "pred", data / "gt", *MEASURES, "-o", out, "-j1"]
    with Journal(journal_path(out), "a plan"):
        done = process(*call)
    assert (done.returncode, "another run is writing it" in done.stderr) == (2, True)
    assert process(*call).returncode == 0


# --- streams -----------------------------------------------------------------------------------------------------


def test_a_reader_that_leaves_early_costs_no_result(data, tmp_path):
    """`| head -1`: exit 141, and the run file is there, finished."""
    out = tmp_path / "r.json"
    driver = start(data, out, "-j1")
    driver.stdout.close()
    _, driver_err = driver.stderr.read(), driver.stderr.close()
    driver.wait(60)
    assert driver.returncode == 141
    assert out.exists()
    assert driver_err is None
    assert process("evaluate", data / "pred", data / "gt", *MEASURES, "-o", out, "-j1").returncode == 0


def test_progress_is_for_a_terminal(data):
    """A line with what is done, the rate and what is left; gone in the end."""
    ours, theirs = pty.openpty()
    call = [sys.executable, "-c", SLOW, "evaluate", data / "pred", data / "gt", "-m", "dice", "-j1"]
    driver = subprocess.Popen([str(part) for part in call], stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while block := os.read(ours, 4096):
                seen.extend(block)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    stdout, _ = driver.communicate(timeout=60)
    reader.join(10)
    os.close(ours)
    drawn = re.findall(rf"(\d+)/{CASES} cases, ([\d.]+)/s, (\d+:\d\d) left", seen.decode())
    assert drawn
    assert [int(d[0]) for d in drawn] == sorted(int(d[0]) for d in drawn)
    assert seen.decode().rstrip("\r\n").endswith("\x1b[2K")
    assert "cases," not in stdout


#: Cases that take a tenth of a second each.
SLOW = """
import sys, time
import segcli.cohort.engine as engine
from segcli.cli.main import run

score = engine.score_task
engine.score_task = lambda plan, task: (time.sleep(0.12), score(plan, task))[1]
sys.exit(run(sys.argv[1:]))
"""


# --- the library ---------------------------------------------------------------------------------------------------


def test_a_script_needs_no_main_guard(data, tmp_path):
    """Workers do not run the script that started them, so it is run once."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import segcli\n"
        "print('once')\n"
        f"run = segcli.evaluate({str(data / 'pred')!r}, {str(data / 'gt')!r}, metrics='dice', jobs=2)\n"
        "print(len(run.cases))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["once", str(CASES)], "")


# --- Dask ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and two workers as processes of their own, in another folder."""
    pytest.importorskip("distributed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    log = tmp_path / "scheduler.log"
    started = []

    def launch(module: str, *arguments: str) -> None:
        call = [sys.executable, "-m", module, *arguments]
        with log.open("ab") as file:
            started.append(subprocess.Popen(call, cwd=elsewhere, stdout=file, stderr=file))

    launch("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    until(lambda: re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text()))
    address = re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text())[0]
    for _ in range(2):
        launch("distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    yield address, started[1:]
    for one in started:
        one.kill()
        one.wait(20)


def test_a_dask_cluster_gives_the_same_run_though_a_worker_dies(data, tmp_path, cluster):
    """Relative paths mean what they mean here; what the dead worker was at is run on the other."""
    address, nodes = cluster
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "r.json"
    call = ["evaluate", "pred", "gt", *MEASURES, "-o", "r.json", "--engine", "dask", "--scheduler", address]
    driver = subprocess.Popen(
        [sys.executable, "-m", "segcli", *call], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: lines(out) >= 2 or driver.poll() is not None)
    nodes[0].kill()
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 0, stderr
    assert same_runs(out, data / "whole.json")


def spawned(driver: int) -> list[int]:
    """Return the worker processes of a cluster that a driver has of its own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == driver and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return found


@LINUX
@pytest.mark.parametrize("deaths", [0, 1])
def test_a_dask_cluster_of_its_own_gives_the_same_run(data, tmp_path, deaths):
    """Two processes started for the run, one of them killed: nothing is lost, nothing left, nothing on stderr."""
    pytest.importorskip("distributed")
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    before = {path.name for path in tmp_path.iterdir()}
    out = tmp_path / "r.json"
    driver = start(tmp_path, out, "--engine", "dask", "-j2", cwd=tmp_path)
    until(lambda: lines(out) >= 2 or driver.poll() is not None)
    nodes = spawned(driver.pid)
    assert len(nodes) == 2
    for pid in nodes[:deaths]:
        os.kill(pid, signal.SIGKILL)
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 0, stderr
    assert stderr.splitlines() == [f"wrote {out}     next: segcli gate {out}"]
    assert same_runs(out, data / "whole.json")
    assert {path.name for path in tmp_path.iterdir()} - before == {"r.json", "r.json.journal"}
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in nodes), 20)


def test_a_scheduler_that_does_not_answer(data, monkeypatch):
    """Exit 2 with the address, not a traceback."""
    pytest.importorskip("distributed")
    monkeypatch.setattr("segcli.cohort.dask_engine.PATIENCE", 2)
    address = "tcp://127.0.0.1:1"
    done = segcli("evaluate", data / "pred", data / "gt", "--engine", "dask", "--scheduler", address)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: --scheduler {address}: " in done.stderr


def test_without_dask_it_says_what_to_install(data, tmp_path):
    """A module that cannot be imported stands for one that is not there."""
    (tmp_path / "distributed.py").write_text("raise ImportError\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = process("evaluate", data / "pred", data / "gt", "--engine", "dask", PYTHONPATH=path)
    assert done.returncode == 2
    assert "hint: pip install 'segcli[dask]'" in done.stderr


def test_values_do_not_depend_on_threads(data, tmp_path):
    """NUMBA_NUM_THREADS and its like are for speed: the same numbers with 1 and 2.

    A BLAS adds up long vectors in as many parts as it has threads; 40 000 voxels are long.
    """
    soft = tmp_path / "soft"
    rng = np.random.default_rng(2)
    for side, array in (("pred", rng.random((200, 200)).astype(np.float32)), ("gt", rng.random((200, 200)) < 0.4)):
        (soft / side).mkdir(parents=True)
        np.save(soft / side / "c.npy", array)
    for where, measures, jobs in ((data, MEASURES, "-j2"), (soft, OF_PROBABILITIES, "-j1")):
        runs = []
        for threads in ("1", "2"):
            out = tmp_path / f"{where.name}{threads}.json"
            done = process(
                "evaluate", where / "pred", where / "gt", *measures, "-o", out, jobs,
                NUMBA_NUM_THREADS=threads, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            runs.append(out)
        assert same_runs(*runs)


def test_the_cohort_is_what_the_tests_take_it_for(data):
    """Sixteen cases, one with an empty prediction, some without label 2."""
    run = without_environment(data / "whole.json")
    assert len(run["cases"]) == CASES
    empty = [c["case"] for c in run["cases"] if c["counts"]["1"]["tp"] + c["counts"]["1"]["fp"] == 0]
    assert empty == ["case_003"]
    assert np.load(data / "gt/case_000.npy").max() == 1
