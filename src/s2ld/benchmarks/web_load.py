"""Many clients of `s2ld web` at once: is every request answered, how many a second, and does memory grow."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from s2ld.errors import S2LDError
from s2ld.log import Progress

PATIENCE = 600.0
"""Seconds that a client waits for its answer."""
_MB = 2**20


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    """HTTP status; 0: none."""
    matches: int
    seconds: float
    """From the first byte sent to the last received, waiting included."""
    memory: float
    """Resident memory of the server after it, MiB."""


@dataclass(frozen=True)
class Load:
    """What the server did under load."""

    answers: tuple[Answer, ...]
    """In the order in which they came."""
    seconds: float
    """All of them together."""
    idle: float
    """Resident memory before the first request, MiB."""

    @property
    def lost(self) -> int:
        """Requests without matches in their answer."""
        return sum(answer.status != 200 or not answer.matches for answer in self.answers)

    def lines(self) -> list[str]:
        """Return what is worth telling."""
        waits = np.array([answer.seconds for answer in self.answers])
        memory = [answer.memory for answer in self.answers]
        quarter = max(1, len(memory) // 4)
        early, late = float(np.median(memory[quarter : 2 * quarter] or memory)), float(np.median(memory[-quarter:]))
        return [
            f"requests: {len(self.answers)}, lost: {self.lost}",
            f"rate: {len(self.answers) / self.seconds:.2f} pairs a second",
            f"answer: median {np.median(waits):.2f} s, 95 % within {np.quantile(waits, 0.95):.2f} s, waiting included",
            f"memory: {self.idle:.0f} MiB before, {early:.0f} in the second quarter, {late:.0f} in the last, "
            f"{max(memory):.0f} at most",
        ]


def measure(photos: tuple[Path, Path], requests: int, clients: int, options: Sequence[str], side: int) -> Load:
    """Start a server in a process of its own and let clients ask it to match a pair.

    Args:
        photos: that every client sends.
        requests: of all clients together.
        clients: at once.
        options: of `s2ld web`.
        side: longer side at which the pair is matched, resized px.

    Raises:
        S2LDError: the server does not start.
    """
    command = [sys.executable, "-m", "s2ld", "web", "--port", "0", "--max-requests", str(clients), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            if not address:
                raise S2LDError("s2ld web has not started; run it by itself and see why")
            process = psutil.Process(server.pid)
            urllib.request.urlopen(f"{address}/status", timeout=PATIENCE).close()
            idle = process.memory_info().rss / _MB
            kind, body = _form(photos, {"resolution": str(side)})

            def ask(_: int) -> Answer:
                start = time.perf_counter()
                status, matches = _post(f"{address}/match", kind, body)
                return Answer(status, matches, time.perf_counter() - start, process.memory_info().rss / _MB)

            begun = time.perf_counter()
            with ThreadPoolExecutor(clients) as pool:
                answered = Progress(pool.map(ask, range(requests)), desc="requests", unit="request", total=requests)
                answers = tuple(answered)
            return Load(answers, time.perf_counter() - begun, idle)
        finally:
            server.terminate()


def _form(photos: tuple[Path, Path], fields: dict[str, str]) -> tuple[str, bytes]:
    """Return content type and body of a multipart form."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for side, photo in enumerate(photos):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image{side}"; filename="{photo.name}"\r\n\r\n'
        parts.append(head.encode() + photo.read_bytes() + b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join(parts) + f"--{boundary}--\r\n".encode()


def _post(url: str, kind: str, body: bytes) -> tuple[int, int]:
    """Return the status and the number of matches of an answer; 0, 0 where there is none."""
    request = urllib.request.Request(url, body, {"Content-Type": kind, "Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, len(json.load(answer)["points0"])
    except urllib.error.HTTPError as error:
        return error.code, 0
    except (OSError, ValueError, KeyError):
        return 0, 0
