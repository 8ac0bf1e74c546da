"""The container's recipe and the project agree; building it needs a daemon and a network, which tests have not."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from s2ld.cli.main import COMMANDS
from s2ld.cli.match.web import build_parser

ROOT = Path(__file__).parents[1]
LINES = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()


def arguments(instruction: str) -> list[str]:
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{instruction} ")]


def test_it_runs_the_command_and_not_as_root() -> None:
    assert json.loads(arguments("ENTRYPOINT")[0]) == list(PROJECT["project"]["scripts"])
    command, *options = json.loads(arguments("CMD")[0])
    assert COMMANDS[command].module == "match.web"
    assert build_parser().parse_args(options).host == "0.0.0.0"
    assert arguments("EXPOSE") == [str(build_parser().parse_args([]).port)]
    (user,) = arguments("USER")
    assert user not in ("root", "0")
    after = LINES[LINES.index(f"USER {user}") :]
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in after)


def test_what_it_copies_is_there_and_suffices() -> None:
    copied = {word.rstrip("/") for line in arguments("COPY") for word in line.split()[:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], PROJECT["project"]["readme"]]
    needed += PROJECT["project"]["license-files"]
    assert {name.split("/")[0] for name in needed} | {"pyproject.toml"} == copied


def test_torch_is_the_one_that_is_tested_and_its_build_is_chosen() -> None:
    (argument,) = arguments("ARG")
    assert argument == "TORCH=cpu"
    (install,) = [line for line in arguments("RUN") if "torch" in line]
    (pinned,) = set(re.findall(r"pip install (torch==[\d.]+)", README))
    assert f" {pinned} " in install
    assert install.endswith("/${TORCH}")
    extras = re.findall(r'"/opt/s2ld\[(\w+)\]"', "\n".join(arguments("RUN")))
    assert extras == ["all"]
    assert "all" in PROJECT["project"]["optional-dependencies"]


def test_the_commands_of_the_pages_are_those_of_the_recipe() -> None:
    pages = README + (ROOT / "docs/matching.md").read_text()
    assert set(re.findall(r"--build-arg (\w+)=", pages)) == {"TORCH"}
    mounts = set(re.findall(r'-v "\$PWD:(\S+)"', pages))
    assert mounts == set(arguments("WORKDIR"))
    images = set(re.findall(r"docker build -t (\S+)", pages))
    runs = re.findall(r"docker run .* (\S+) match a\.jpg b\.jpg", pages)
    assert set(runs) == images == {"s2ld", "s2ld:cuda"}
