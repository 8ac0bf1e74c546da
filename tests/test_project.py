"""The project's own papers: what the README says exists, one list of dependencies, a light import."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import s2ld
from s2ld.cli.main import COMMANDS
from s2ld.cli.match.demo import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


PAGES = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str = README) -> list[list[str]]:
    """Every simple command of a page's shell blocks, as words."""
    joined = "\n".join(blocks("shell", text)).replace("\\\n", " ")
    lines = [part for line in joined.splitlines() for part in line.split("&&")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_readme_has_the_commands_that_users_know() -> None:
    known = [
        "conda env create -f environment.yaml",
        "python demo_match.py --weight ./weights/s2ld-e2e-inference.pt",
        "scripts/train/train_outdoor_ds_e2e.sh",
        "scripts/test/test_outdoor_ds_e2e.sh",
    ]
    assert [c for c in known if shlex.split(c) not in commands()] == []


def test_files_that_the_readme_names_exist() -> None:
    words = {word for command in commands() for word in command}
    files = {w for w in words if re.fullmatch(r"(scripts|configs)/\S+|\w+\.py|environment\.yaml", w)}
    assert len(files) >= 8
    assert sorted(f for f in files if not (ROOT / f).exists()) == []
    assert [f for f in sorted(files) if f.endswith(".sh") and not os.access(ROOT / f, os.X_OK)] == []


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", README)
    local = {a or b for a, b in links if not (a or b).startswith("http")}
    assert local
    assert sorted(link for link in local if not (ROOT / link).exists()) == []


def test_the_readme_is_short_and_has_the_two_commands_that_are_checked() -> None:
    assert len(README.splitlines()) <= 130
    for word in ("pytest", "demo_match.py"):
        assert re.search(rf"^python3 -m venv .*{re.escape(word)}$", README, re.MULTILINE), word


def test_commands_of_the_pages_exist() -> None:
    door = pytest.importorskip("s2ld.cli.main")
    words = [command[1:3] for page in PAGES for command in commands(page) if command[0] == "s2ld"]
    assert len(words) >= 40
    assert [w for w in words if w[0] not in door.COMMANDS and " ".join(w) not in door.COMMANDS] == []


def test_demo_commands_of_the_pages_parse() -> None:
    starts = (["python", "demo_match.py"], ["s2ld", "match"])
    demos = [command[2:] for page in PAGES for command in commands(page) if command[:2] in starts]
    assert len(demos) >= 10
    for arguments in demos:
        build_parser().parse_args(arguments)


def test_commands_of_the_readme_parse() -> None:
    calls = [words[1:] for words in commands() if words[0] == "s2ld"]
    assert len(calls) >= 8
    for words in calls:
        count = 2 if " ".join(words[:2]) in COMMANDS else 1
        module = import_module(f"s2ld.cli.{COMMANDS[' '.join(words[:count])].module}")
        module.build_parser().parse_intermixed_args(words[count:])


def test_python_of_the_readme_names_what_exists() -> None:
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        compile(snippet, "README.md", "exec")
        for names in re.findall(r"^from s2ld import (.+)$", snippet, re.MULTILINE):
            assert [n for n in names.split(", ") if not hasattr(s2ld, n)] == []


def test_environment_installs_from_the_project_file() -> None:
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    assert environment["name"] == "s2ld"
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert plain == ["python=3.11", "pip"], "no second list of dependencies"
    assert pip == ["-e .[dev]"]
    assert "s2ld[all,docs]" in PROJECT["optional-dependencies"]["dev"]


def test_version_and_licence_agree() -> None:
    assert PROJECT["version"] == s2ld.__version__
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (s2ld.__version__, PROJECT["license"])
    assert citation["preferred-citation"]["doi"] in README
    assert f"## {s2ld.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_page_is_in_the_site() -> None:
    navigation = re.findall(r"^ +- (\S+\.md)$|: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert {first or second for first, second in navigation} == pages


@pytest.mark.parametrize("module", ["s2ld", "s2ld.cli.match.demo"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'cv2', 'matplotlib', 'numpy') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
