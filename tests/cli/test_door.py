"""The command `s2ld`: its table, its help without torch, old spellings, and what it says to a wrong name."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import s2ld
from s2ld.cli import main as door
from s2ld.cli.main import COMMANDS, main
from s2ld.cli.parser import Parser

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "pytorch_lightning", "matplotlib", "cv2", "h5py", "kornia")


def python(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[str, list[str]]]:
    """The help of every command, and what heavy it had loaded then."""
    code = (
        "import contextlib, io, json, sys\n"
        "from s2ld.cli.main import main\n"
        "said = {}\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):\n"
        "        main(words)\n"
        "    said[' '.join(words)] = text.getvalue(), [name for name in sys.argv[2:] if name in sys.modules]\n"
        "print(json.dumps(said))"
    )
    calls = [[], ["--help"], ["--version"], ["export"], ["benchmark", "--help"]]
    calls += [[*name.split(), "--help"] for name in COMMANDS]
    said = json.loads(python(code, json.dumps(calls), *HEAVY))
    return {call: (text, loaded) for call, (text, loaded) in said.items()}


def test_no_help_loads_anything_heavy(helps: dict[str, tuple[str, list[str]]]) -> None:
    assert len(helps) == len(COMMANDS) + 5
    assert {call: loaded for call, (_, loaded) in helps.items() if loaded} == {}


def test_help_says_its_command_statuses_and_an_example_that_parses(helps: dict[str, tuple[str, list[str]]]) -> None:
    for name, command in COMMANDS.items():
        text, _ = helps[f"{name} --help"]
        assert text.startswith(f"usage: s2ld {name} "), name
        assert "Exit status: 0" in text
        example = text.splitlines()[-1]
        assert example.startswith(f"Example: s2ld {name} ")
        words = shlex.split(example)[1 + 1 + len(name.split()) :]
        parser = import_module(f"s2ld.cli.{command.module}").build_parser()
        parser.parse_intermixed_args(words)
        assert not re.search(r"--\w*_", text), name


def test_overview_names_every_command_and_the_version(helps: dict[str, tuple[str, list[str]]]) -> None:
    for call in ("", "--help"):
        assert [name for name in COMMANDS if f"  {name} " not in helps[call][0]] == []
    assert "export weights" in helps["export"][0]
    assert "train" not in helps["export"][0]
    assert helps["--version"][0] == f"s2ld {s2ld.__version__}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "s2ld: there is no command 'trian'; did you mean train?\n"),
        (["benchmark", "sped"], "s2ld: there is no command 'benchmark sped'; did you mean benchmark speed?\n"),
        (["--quick"], "s2ld: there is no command '--quick'; s2ld --help lists all\n"),
    ],
)
def test_an_unknown_command_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("file", "name"), [("train.py", "train"), ("test.py", "test"), ("demo_match.py", "match")])
def test_old_doors_say_the_commands_name(
    file: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [file, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / file), run_name="__main__")
    assert capsys.readouterr().out.startswith(f"usage: s2ld {name} ")


def test_a_command_may_be_spelt_with_an_underscore(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check_data", "no_such_config"]) == 2
    assert capsys.readouterr().err.startswith("s2ld check-data: no_such_config: no config of this name")


def test_old_spellings_of_options_are_taken() -> None:
    parser = Parser("x", "What it does.", "1", former={"--dump": "--output"})
    parser.add_argument("words", nargs="*")
    parser.add_argument("--max-time")
    parser.add_argument("--output")
    for parse in (parser.parse_args, parser.parse_intermixed_args):
        read = parse(["a_b", "--max_time=1_0", "--dump", "d_e"])
        assert (read.words, read.max_time, read.output) == (["a_b"], "1_0", "d_e")
    read = parser.parse_args(["--max_t", "3", "--", "--dump"])
    assert (read.max_time, read.words) == ("3", ["--dump"])


OLD = {
    "train": "--max_time 1 --num_nodes 2 --fast_dev_run",
    "ablate": "--max_time 1 --size 64 48",
    "test": "--dump d",
    "check-data": "--workers 0",
    "teacher-descriptors": "--weights w.pth",
    "benchmark data": "--render_batch 2",
    "benchmark matchers": "--dump d",
    "benchmark depth": "--images 3",
}


@pytest.mark.parametrize("name", OLD)
def test_commands_take_their_earlier_options(name: str) -> None:
    parser = import_module(f"s2ld.cli.{COMMANDS[name].module}").build_parser()
    own = parser.parse_intermixed_args(
        ["a", "b", *OLD[name].split()] if name != "benchmark matchers" else ["a", *OLD[name].split()]
    )
    values = {str(value) for value in vars(own).values()}
    assert set(OLD[name].split()[1::2]) & values or name == "ablate"
    assert name != "ablate" or own.resize == [64, 48]


def test_every_parser_is_of_the_one_class_and_every_command_is_in_the_table() -> None:
    modules = set()
    for path in (ROOT / "src/s2ld/cli").rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert "argparse.ArgumentParser" not in calls, path
        if "Parser" in calls:
            modules.add(".".join(path.relative_to(ROOT / "src/s2ld/cli").with_suffix("").parts))
    assert modules == {command.module for command in door.COMMANDS.values()}
