"""The memory that is left, limits read from small trees of files like those of Linux."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from s2ld.memory import available_memory

MIB = 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def limits(folder: str, names: tuple[str, str], limit: str, used: int, inactive: int = 0) -> dict[str, str]:
    stat = f"anon 1\ninactive_file {inactive}\nactive_file 3\n"
    return {f"{folder}/{names[0]}": f"{limit}\n", f"{folder}/{names[1]}": f"{used}\n", f"{folder}/memory.stat": stat}


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * MIB),
        # version 2, the limit on a group above; what is cached of files can go
        (
            {
                "proc/self/cgroup": "0::/slurm/job_7\n",
                **limits("sys/fs/cgroup/slurm/job_7", V2, "max", MIB),
                **limits("sys/fs/cgroup/slurm", V2, str(5 * MIB), 4 * MIB, MIB),
            },
            2 * MIB,
        ),
        # in a container the path is the host's, and the own group lies at the top
        ({"proc/self/cgroup": "0::/../x\n", **limits("sys/fs/cgroup", V2, str(5 * MIB), 2 * MIB)}, 3 * MIB),
        # version 1 beside an empty version 2
        (
            {
                "proc/self/cgroup": "4:memory:/docker/ab:cd\n1:cpu:/\n0::/\n",
                **limits("sys/fs/cgroup/memory", V1, str(4 * MIB), 6 * MIB),
            },
            0,
        ),
        # more than the machine has
        ({"proc/self/cgroup": "0::/\n", **limits("sys/fs/cgroup", V2, str(99 * MIB), 0)}, 8 * MIB),
    ],
)
def test_the_least_of_machine_and_cgroups(
    tmp_path: Path, files: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * MIB))
    assert available_memory(tree(tmp_path, files)) == expected


def test_this_machine_has_some_left() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total
