"""The house rules that a machine can check: import direction, module size, start-up, option defaults."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "segcli"
HEAVY = {"numpy", "numba", "scipy", "nibabel", "PIL"}

#: The rooms of the house from the ground up: what each is for. A file may import from its own room and from those
#: above it in this list, at run time, in functions and for types alike; never from a room below.
ROOMS = {
    "errors": "errors that a user can act on, and the exit codes; needs nothing",
    "wording": "numbers in sentences; needs nothing",
    "text": "texts that are read: bounded, and no devices",
    "writing": "files that are written whole or not at all",
    "trust": "whose files may decide what is run or measured",
    "config": "the configuration file and the environment",
    "kernels": "arrays in, arrays out; the only room that touches numba",
    "masks": "files and arrays to masks: reading, grids, labels, pairing the two sides",
    "evidence": "what measures reduce, each piece computed once; touches kernels and masks",
    "measure": "the record of every measure, its notation, the families, and what other tools have of it",
    "scoring": "one case: loading, values, means, rules for empty masks, limits",
    "run": "run files of many cases: model, summary, comparison, ranking, citation",
    "explain": "where a loss comes from, and how losses compare",
    "tools": "what other tools would print for a pair or a run",
    "cohort": "many cases: pairing files, workers, journal, shards",
    "gates": "rules and verdicts on runs",
    "report": "results to text; computes nothing",
    "cli": "parse, call, deliver",
    "__init__": "the public names, loaded when they are used",
    "__main__": "`python -m segcli`",
}
FLOORS = {room: floor for floor, room in enumerate(ROOMS)}
MODULES = sorted(PACKAGE.rglob("*.py"))
FILES = {".".join(("segcli", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): p
         for p in MODULES}  # fmt: skip


def imported(path: Path) -> list[tuple[Path, bool]]:
    """Return the files of the package that a file imports anywhere in it, and whether only for types."""
    found = []

    def walk(node: ast.AST, *, types: bool) -> None:
        for child in ast.iter_child_nodes(node):
            only = types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            if isinstance(child, ast.ImportFrom) and child.module and child.module.split(".")[0] == "segcli":
                own = [FILES.get(f"{child.module}.{alias.name}") for alias in child.names]
                found.extend((file or FILES[child.module], types) for file in own)
            elif isinstance(child, ast.Import):
                found.extend(
                    (FILES[alias.name], types) for alias in child.names if "." in alias.name and alias.name in FILES
                )
            walk(child, types=only)

    walk(ast.parse(path.read_text()), types=False)
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down_the_floors(path: Path) -> None:
    """No file imports from a room above its own, not in a function and not for types either."""
    for other, _ in imported(path):
        assert FLOORS[room_of(other)] <= FLOORS[room_of(path)], f"{path.name} imports {other.relative_to(ROOT)}"


def test_no_file_imports_what_imports_it() -> None:
    """Files that need each other are one file: no circle, not through a function and not for types either."""
    needs = {path: {other for other, _ in imported(path) if other.name != "__init__.py"} for path in MODULES}
    while leaves := [path for path, others in needs.items() if not others & needs.keys()]:
        for path in leaves:
            del needs[path]
    assert not needs, f"in a circle, or above one: {sorted(p.relative_to(PACKAGE).as_posix() for p in needs)}"


def test_the_top_is_tidy() -> None:
    """At most eight files stand loose; every room has its line."""
    assert len([p for p in MODULES if p.parent == PACKAGE]) <= 8
    assert {room_of(p) for p in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_stay_readable(path: Path) -> None:
    """No module is over 400 lines, and none has a name that says nothing."""
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in {"utils", "helpers", "core", "common", "misc"}


def loaded_after(*arguments: str) -> set[str]:
    """Return which heavy packages a command line has imported when it ends."""
    code = (
        "import sys; from segcli.cli.main import run; code = run(sys.argv[1:]); "
        f"print(sorted({HEAVY!r} & set(sys.modules)), code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stderr.strip().splitlines()[-1].rsplit(" ", 1)[0]))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["score", "--help"],
        ["compare", "--help"],
        ["evaluate", "--help"],
        ["evaluate", "a", "b", "c"],
        ["evaluate", "a", "b", "-m", "dcie"],
        ["evaluate", "tests", "tests", "--dry-run"],
        ["catalog"],
        ["catalog", "hd95"],
        ["catalog", "dice", "-f", "json"],
        ["schema", "run"],
        ["score", "a.nii", "b.nii", "-m", "dcie"],
        ["score", "a.nii", "b.nii", "--nonsense"],
        ["score", "a.nii", "b.nii", "-l", "tversky:fp=-1"],
        ["score", "a.nii", "b.nii", "--min", "dice"],
        ["gate", "--help"],
        ["gate", "run.json", "--min", "dcie=1"],
        ["compare", "--losses", "tverski"],
        ["conventions", "a.nii", "b.nii", "-m", "dcie"],
        ["score", "a.nii", "b.nii", "--convention", "monia"],
        ["score", "a.nii", "b.nii", "--empty", "monia"],
        ["diff", "a.json"],
        ["diff", "a.json", "b.json", "-m", "dcie"],
        ["rank", "a.json"],
        ["rank", "a.json", "a.json"],
        ["cite", "--help"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_help_catalog_and_usage_errors_load_nothing_heavy(arguments: list[str]) -> None:
    """What needs no array imports neither NumPy, Numba, SciPy, nibabel nor Pillow."""
    assert loaded_after(*arguments) == set()


def test_importing_segcli_is_cheap() -> None:
    """`import segcli` loads nothing heavy; its names arrive when they are used."""
    code = f"import sys, segcli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_optional_option_has_a_default() -> None:
    """An `X | None` option without a default is a required one in Typer: there is none."""
    from segcli.cli.main import app

    for command in app.registered_commands:
        signature = inspect.signature(command.callback)
        for parameter in signature.parameters.values():
            if "None" in str(parameter.annotation) and parameter.name != "ctx":
                assert parameter.default is not inspect.Parameter.empty, (
                    f"{command.callback.__name__}: {parameter.name}"
                )


def test_kernels_alone_import_numba() -> None:
    """Numba is configured in one file and used in one folder."""
    for path in MODULES:
        if "kernels" in path.parts:
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
        names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        assert not any(name.split(".")[0] == "numba" for name in names), path


def test_every_public_name_is_there() -> None:
    """Each name of `segcli.__all__` can be had, and is the same twice."""
    import segcli

    for name in segcli.__all__:
        assert getattr(segcli, name) is getattr(segcli, name)
