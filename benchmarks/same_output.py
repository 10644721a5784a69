#!/usr/bin/env python3
"""Does another tree of segcli say the same? Every command in every format, byte for byte, on inputs made here.

usage: same_output.py OLD [NEW]           OLD, NEW: trees (folders that hold `segcli/`), NEW is this one where left out
       same_output.py OLD [NEW] -k TEXT   only commands that hold TEXT, and those that write what others read
       same_output.py --store FILE [OLD]  what a tree says now; FILE then stands for it as OLD

What is rebuilt must not change a letter of stdout or of a file. Each command runs in a process of its own, in both
trees on the same files; what differs is printed as a diff, and the exit code is 1. The lines on stderr are compared
too. Only what no run has twice is left out: the time, the duration, the command line of a run file.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
ENDINGS = {"table": "txt", "json": "json", "csv": "csv", "md": "md", "latex": "tex", "junit": "xml", "github": "txt"}
#: What no two runs share.
VOLATILE = [
    (re.compile(rb'"started": ?"[^"]*"'), b'"started": ""'),
    (re.compile(rb'"seconds": ?[0-9.e-]+'), b'"seconds": 0'),
    (re.compile(rb'timestamp="[^"]*"'), b'timestamp=""'),
    (re.compile(rb'time="[0-9.]*"'), b'time=""'),
    (re.compile(rb"[0-9.]+ (?:ms|s)\b"), b"0 s"),
]


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        _run_all(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
        return
    arguments = sys.argv[1:]
    only = arguments.pop(arguments.index("-k") + 1) if "-k" in arguments else ""
    trees = [Path(a).resolve() for a in arguments if a not in ("-k", "--store")]
    if not trees or len(trees) > 2:
        sys.exit(__doc__)
    if "--store" in arguments:
        trees[0].write_text(json.dumps(_of_tree(trees[1] if len(trees) == 2 else HERE, only)))
        return
    found = [_of_tree(tree, only) for tree in (trees[0], trees[1] if len(trees) == 2 else HERE)]
    differing = [key for key in found[1] if found[0].get(key) != found[1][key]]
    for key in differing:
        for part in sorted({*found[0][key], *found[1].get(key, {})}):
            old, new = (str(side.get(key, {}).get(part, "")) for side in found)
            if old != new:
                print(f"==== segcli {key}: {part}")
                lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "old", "new", lineterm="", n=1)
                print("\n".join(line[:240] for line in islice(lines, 24)))
    print(f"{len(found[1])} commands, {len(differing)} say something else")
    sys.exit(bool(differing))


def _of_tree(tree: Path, only: str) -> dict[str, dict[str, Any]]:
    """Return what each command of a tree says, or what a file has stored of one."""
    if tree.is_file():
        return json.loads(tree.read_text())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "w")
        work.mkdir(parents=True)
        _inputs(work, tree)
        result = Path(folder, "result.json")
        env = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "80", "NO_COLOR": "1", "SAME_OUTPUT_ONLY": only}
        command = [sys.executable, __file__, "--run", str(tree), str(work), str(result)]
        subprocess.run(command, check=True, env=env, cwd=folder)
        return json.loads(result.read_text())


# --- the inputs ----------------------------------------------------------------------------------------


def _inputs(work: Path, tree: Path) -> None:
    """Write two cohorts of six small cases with groups, gaps and faults, and the sample masks."""
    shutil.copytree(tree / "sample_masks", work / "s")
    rng = np.random.default_rng(1)
    for name in ("gt", "pred", "pred2", "prob", "roi"):
        (work / name).mkdir()
    rows = ["case,pred,gt,site"]
    for i in range(6):
        gt = np.zeros((12, 14, 10), np.uint8)
        gt[2:8, 3:9, 2:7] = 1
        gt[8:11, 9:13, 3:8] = 2
        if i == 3:
            gt[gt == 2] = 0
        pred = np.roll(gt, i % 3, axis=i % 2)
        pred[rng.random(gt.shape) < 0.01 * i] = 0
        pred2 = np.roll(gt, 1, axis=2)
        if i == 4:
            pred[pred == 1] = 0
        prob = np.clip((gt > 0) * 0.7 + rng.normal(0.15, 0.1, gt.shape), 0, 1).astype(np.float32)
        np.save(work / "gt" / f"c{i}.npy", gt)
        np.save(work / "roi" / f"c{i}.npy", (np.arange(12)[:, None, None] < 9) * np.ones_like(gt))
        np.save(work / "pred2" / f"c{i}.npy", pred2)
        np.save(work / "prob" / f"c{i}.npy", prob)
        if i != 5:
            np.save(work / "pred" / f"c{i}.npy", pred)
        rows.append(f"c{i},pred2/c{i}.npy,gt/c{i}.npy,{'ab'[i % 2]}")
    np.save(work / "gt" / "odd.npy", np.zeros((3, 3), np.uint8))
    np.save(work / "pred" / "odd.npy", np.zeros((3, 4), np.uint8))
    (work / "m.csv").write_text("\n".join(rows) + "\n")
    (work / "rules.toml").write_text(_RULES)
    (work / "drops.toml").write_text(_DROPS)


_RULES = """
[[gate]]
id = "dice"
measure = "dice"
min = 0.7

[[gate]]
measure = "hd95"
label = "1"
stat = "p95"
max = 5
on_undefined = "worst"

[[gate]]
measure = "dice"
label = "mean"
stat = "ci_low"
min = 0.2

[[gate]]
measure = "dice"
stat = "pooled"
min = 0.99
level = "warn"

[[gate]]
id = "no-errors"
level = "warn"
"""
_DROPS = """
[[gate]]
measure = "dice"
max_drop = 0.01

[[gate]]
measure = "dice"
label = "1"
stat = "worst-3"
max_drop = "2%"

[[gate]]
measure = "iou"
max_drop = 0.001
confidence = 0.9
"""


# --- the commands --------------------------------------------------------------------------------------

_PAIR = "s/abdomen_pred.nii.gz s/abdomen_gt.nii.gz"
_MASKS = {
    "named": f"{_PAIR} --labels s/labels.csv",
    "bare": _PAIR,
    "nuclei": "s/nuclei_pred.png s/nuclei_gt.png",
    "prob": "s/nuclei_prob.npy s/nuclei_gt.npy",
    "logits": "s/nuclei_logits.npy s/nuclei_gt.npy --from-logits",
    "channels": "s/tissue_probs.npy s/tissue_gt.png",
    "planes": "s/tissue_pred.png s/tissue_gt.png",
    "stack": "gt/c1.npy pred2/c1.npy --stack",
    "empty": "pred/c4.npy gt/c4.npy",
    "nothing": "pred/c3.npy gt/c3.npy",
    "void": "pred/c1.npy gt/c1.npy --ignore-label 2",
    "roi": "pred/c1.npy gt/c1.npy --roi roi/c1.npy",
}


def _commands() -> list[str]:
    """Return the command lines, in the order in which they run: later ones read what earlier ones write."""
    found: list[str] = []
    every = ("table", "json", "csv", "md", "latex")
    most = every[:4]
    for name, pair in _MASKS.items():
        found += [f"score {pair} -f {f}" for f in most]
        found += [f"score {pair} -m all -l all -f {f}" for f in ("table", "json") if name != "bare"]
    several = (
        "--empty worst", "--empty monai", "--average micro", "--average weighted", "--mean-of 1", "--surface border",
        "--convention monai", "--convention nnunet", "--strict", "--per-component", "--min dice=0.9 --max 1/hd95=1",
        "--no-background -l default", "-l dice,hd_dt", "--labels a=1,b=2,ab=1+2", "--spacing 1,2,3",
        "-m confusion,dice,froc_curve,ap",
    )  # fmt: skip
    for more in several:
        found += [f"score pred/c4.npy gt/c4.npy {more} -f {f}" for f in ("table", "json", "csv")]
    found += [
        f"score pred/c4.npy gt/c4.npy {more}" for more in ("-m nosuch", "-m dice:surface=2", "-v", "-q", "-f latex")
    ]
    found += [f"score {_MASKS['prob']} --threshold 0.3 --entropy-map out/e.npy", f"score {_MASKS['void']} -m dice -v"]
    losses = "dice,tversky,focal,boundary"
    for pair in ("", _MASKS["prob"], _MASKS["channels"], f"s/nuclei_prob2.npy {_MASKS['prob']}", _MASKS["named"]):
        found += [f"compare {pair} --losses {losses} -f {f}" for f in most]
    found += [f"compare {_MASKS['prob']} -m dice,hd95 --sweep tversky:fn=0.3..0.9/0.2:fp=1-fn -f {f}" for f in most]
    found += ["compare --losses all", f"compare {_MASKS['prob']} --losses all -f json", "compare nosuch.npy gt/c1.npy"]
    for by in ("kind", "label", "component", "band", "slice"):
        found += [f"inspect {_MASKS['prob']} --loss dice --by {by} -f {f}" for f in most[:3]]
    found += [
        f"inspect {_MASKS['channels']} --loss ce --map out/m.npy --gradient out/g.npy --png out/p.png",
        f"inspect {_MASKS['prob']} --loss hd_dt -f json",
        "inspect pred/c1.npy gt/c1.npy --loss tversky:fp=0.3:fn=0.7",
    ]
    cohorts = {
        "r1": "pred gt -m all",
        "r2": "pred2 gt",
        "r3": "--manifest m.csv --group-by site -m default,confusion -l dice",
        "r4": "pred gt --missing worst --empty worst --average weighted",
        "r5": "prob gt --labels fg=any -l dice,ce",
        "r6": "pred gt --roi roi -m dice,hd95,nsd,ap,pq -l dice --missing skip",
        "r7": "pred gt --convention nnunet -m dice,iou",
    }
    for name, call in cohorts.items():
        jobs = "-j 1" if name != "r2" else "-j 2"
        found += [f"evaluate {call} {jobs} -o out/{name}.json"]
        found += [f"evaluate {call} -j 1 -f {f}" for f in every]
    found += [f"evaluate pred gt -j 1 --shard {i}/2 -o out/s{i}.json" for i in (1, 2)]
    found += ["evaluate --merge out/s1.json out/s2.json -o out/merged.json", "evaluate pred gt --dry-run"]
    found += ["evaluate pred gt --dry-run -f csv", "evaluate pred gt --dry-run -f json", "evaluate pred nosuch"]
    found += [
        "evaluate pred gt -j 1 -o out/r1.json --resume -m all",
        "evaluate pred gt -j 1 --worst 3 --cell iqr -f latex",
    ]
    for run in cohorts:
        for rules in ("--min dice=0.5", "--rules rules.toml"):
            found += [f"gate out/{run}.json {rules} -f {f}" for f in ("table", "json", "junit")]
        found += [f"cite out/{run}.json -f {f}" for f in ("text", "bibtex", "json")]
        found += [f"conventions --empty out/{run}.json -f {f}" for f in ("table", "json", "csv")]
    formats = ("table", "json", "md", "junit", "github")
    found += [f"gate out/r1.json --rules rules.toml --baseline out/r2.json -f {f}" for f in formats]
    found += [f"gate out/r2.json --rules drops.toml --baseline out/r1.json -f {f}" for f in formats]
    found += [f"gate out/r2.json --max hd95=3 --strict -f {f}" for f in formats]
    for pair in ("out/r1.json out/r2.json", "out/r2.json out/r6.json", "out/r2.json out/r4.json"):
        found += [f"diff {pair} -f {f}" for f in every]
        found += [f"diff {pair} --all --sort worse -m dice", f"rank {pair} --resamples 200"]
    found += ["diff out/r2.json out/r2.json", "rank out/r2.json b=out/r2.json --resamples 200"]
    for missing in ("worst", "exclude"):
        call = f"rank out/r1.json out/r2.json --missing {missing} --resamples 200"
        found += [f"{call} -f {f}" for f in every]
    for name in ("named", "prob", "channels", "empty"):
        found += [f"conventions {_MASKS[name]} -f {f}" for f in most]
    found += [f"conventions {_MASKS['prob']} -l dice,focal -f json"]
    found += [f"describe s/abdomen_gt.nii.gz s/nuclei_prob.npy s/tissue_gt.png -f {f}" for f in ("table", "json")]
    found += [f"catalog -f {f}" for f in ("table", "json", "md")]
    found += ["catalog dice", "catalog hd95", "catalog tversky -f json", "catalog --kind loss", "catalog nosuch"]
    found += [
        f"schema {name}"
        for name in ["run", "compare", "inspect", "gate", "diff", "rank", "cite", "describe", "conventions"]
    ]
    found += ["", "--version", "nosuch", "score", "score nosuch.npy gt/c1.npy", "gate nosuch.json --min dice=1"]
    commands = "score compare inspect evaluate gate diff rank cite conventions catalog describe doctor schema"
    return found + [f"{command} --help" for command in commands.split()]


def _run_all(tree: Path, work: Path, result: Path) -> None:
    """Run each command in a fork of this process, which has loaded the tree."""
    sys.path.insert(0, str(tree))
    os.chdir(work)
    Path("out").mkdir()
    from segcli.cli import main as entry

    assert Path(entry.__file__).is_relative_to(tree), entry.__file__
    import numba  # noqa: F401 (loaded once for all forks)
    import scipy.stats  # noqa: F401

    found: dict[str, dict[str, Any]] = {}
    known: dict[str, bytes] = {}
    only = os.environ["SAME_OUTPUT_ONLY"]
    for line in dict.fromkeys(_commands()):
        if only and only not in line and " -o " not in line:
            continue
        started = time.perf_counter()
        code = _fork(entry, line.split())
        said = {"exit": code, "stdout": _text(Path("../stdout")), "stderr": _text(Path("../stderr"))}
        for path in sorted(Path("out").iterdir()):
            data = path.read_bytes()
            if path.suffix != ".journal" and known.get(path.name) != data:
                said[f"file {path.name}"] = _plain(data)
                known[path.name] = data
        found[line] = said
        took = time.perf_counter() - started
        if took > 5:
            print(f"{took:.1f} s: segcli {line}", file=sys.stderr)
    result.write_text(json.dumps(found))


def _fork(entry: Any, arguments: list[str]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for number, name in ((1, "../stdout"), (2, "../stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["segcli", *arguments]
    code = 99
    try:
        entry.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _text(path: Path) -> str:
    return _plain(path.read_bytes())


def _plain(data: bytes) -> str:
    data = data.replace(sys.argv[2].encode(), b"TREE")  # where the sample masks lie
    for pattern, instead in VOLATILE:
        data = pattern.sub(instead, data)
    return data.decode("utf-8", "backslashreplace")


if __name__ == "__main__":
    main()
