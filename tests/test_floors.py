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

#: The floors of the house; a module may import from its own floor and below.
FLOORS = {
    "bulk": 0,
    "errors": 0,
    "spare": 0,
    "surfaces": 0,
    "wording": 0,
    "text": 0,
    "trust": 0,
    "thinnings": 0,
    "writing": 0,
    "config": 1,
    "kernels": 1,
    "masks": 1,
    "param": 1,
    "evidence": 2,
    "statistics": 2,
    "batch": 3,
    "grids": 3,
    "loading": 3,
    "measure": 3,
    "notation": 3,
    "attribution": 4,
    "averaging": 4,
    "blindness": 4,
    "divisions": 4,
    "losses": 4,
    "metrics": 4,
    "policy": 4,
    "sweep": 4,
    "tools": 4,
    "disagreement": 5,
    "library_scores": 5,
    "library_values": 5,
    "logit_gradients": 5,
    "ranking": 5,
    "samples": 5,
    "scored": 5,
    "scoring": 5,
    "summary": 5,
    "cohort": 6,
    "comparison": 6,
    "conventions": 6,
    "empty_means": 6,
    "gate": 6,
    "inspection": 6,
    "library_losses": 6,
    "printed": 5,
    "runs": 6,
    "report": 7,
    "cli": 8,
    "__init__": 9,
    "__main__": 9,
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def floor_of(parts: tuple[str, ...]) -> int:
    return FLOORS[parts[0] if parts else "__init__"]


def imported(tree: ast.AST) -> list[tuple[str, ...]]:
    """Return the parts below `segcli` of every module that a tree imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "segcli":
            parts = tuple(node.module.split(".")[1:])
            found += [parts] if parts else [(alias.name,) for alias in node.names if alias.name in FLOORS]
        elif isinstance(node, ast.Import):
            found += [tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("segcli.")]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down_the_floors(path: Path) -> None:
    """No module imports from a floor above its own; the registry alone may load the families it files."""
    own = path.relative_to(PACKAGE).with_suffix("").parts
    for parts in imported(ast.parse(path.read_text())):
        if own[0] == "measure" and parts[0] in ("losses", "metrics"):
            continue
        assert floor_of(parts) <= floor_of(own), f"{path.name} imports segcli.{'.'.join(parts)}"


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
