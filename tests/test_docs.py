"""What the documents show is what the tool prints, and the commands they give are the ones that CI runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_samples_table_and_picture_are_current() -> None:
    """`python docs/refresh.py --check` finds nothing stale."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "refresh.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_two_set_up_commands() -> None:
    """One runs the main job on the sample masks, one the tests; CI runs the same test command."""
    commands = [block.strip() for block in re.findall(r"```\n(python3 -m venv .*?)\n```", README, flags=re.DOTALL)]
    assert len(commands) == 2
    assert "segcli score sample_masks/" in commands[0]
    tests = commands[1].rsplit("&& ", 1)[1]
    assert tests in (ROOT / ".ci" / "run").read_text()
    assert tests in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_every_link_of_the_documents_leads_somewhere() -> None:
    """Relative links point at files of the repository."""
    for document in [*ROOT.glob("*.md"), *(ROOT / "sample_masks").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_commands_of_the_readme_exist() -> None:
    """Every `segcli WORD` of the README is a command of the tool."""
    from segcli.cli.main import app

    known = {c.callback.__name__ for c in app.registered_commands}
    used = set(re.findall(r"(?:\$ |bin/|`|run: |&& )segcli ([a-z]+)", README))
    assert {"score", "compare", "catalog", "doctor", "schema"} <= used <= known
