"""Several matchers on the same pairs: accuracy through the one cache and evaluation, time in interleaved runs."""

from __future__ import annotations

import csv
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from s2ld.config import CN, build_config
from s2ld.data.images.reading import resize
from s2ld.data.sample import PairSource
from s2ld.errors import S2LDError
from s2ld.evaluation.evaluate import evaluate
from s2ld.evaluation.matchers.interface import PairMatcher
from s2ld.evaluation.matchers.other_matchers import XFEAT_STAR
from s2ld.evaluation.matchers.recorded import RecordedMatches
from s2ld.evaluation.metrics import AUC_THRESHOLDS, CORNER_THRESHOLDS
from s2ld.evaluation.predictions.cache import read_cache
from s2ld.evaluation.predictions.parallel import choose_jobs
from s2ld.evaluation.predictions.predict import match_into_cache, matcher_header
from s2ld.evaluation.protocol import EvaluationProtocol, EvaluationSettings, build_protocol
from s2ld.files import whole_file
from s2ld.types import ImageBatch

TIMED_SIZE = (640, 480)
"""Width and height at which matchers are timed, px."""


@dataclass(frozen=True)
class MatcherRow:
    """What was measured of one matcher."""

    name: str
    numbers: dict[str, float]
    """Scores by name (`summarise`)."""
    seconds: float | None
    """Median time of a pair at `TIMED_SIZE`; None of matches from files."""


def measure(
    matchers: Sequence[PairMatcher | RecordedMatches],
    build: Callable[[CN], PairSource],
    config: CN,
    folder: Path,
    device: torch.device,
    rounds: int,
) -> tuple[list[MatcherRow], EvaluationProtocol]:
    """Measure matchers on the pairs of DATA.TEST_SOURCE, each with a cache of its own in `folder`.

    Args:
        matchers: of different names.
        build: makes the pairs of a config, so that each matcher gets sides that are the multiples that it needs.
        config: the whole config (EVAL: estimators and pixel frame).
        folder: for the caches; those of the same matchers and data are kept.
        device: where images go.
        rounds: timed runs of each matcher.

    Raises:
        S2LDError: two matchers of one name, or what the data say.
    """
    names = [matcher.name for matcher in matchers]
    if len(set(names)) < len(names):
        raise S2LDError(f"{', '.join(names)}: a matcher is named twice; give each weight file once")
    measured = [_score(matcher, build, config, folder, device) for matcher in matchers]
    protocols = [protocol for _, protocol in measured]

    def joined(texts: Iterable[str]) -> str:
        return "; ".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True))

    protocol = replace(
        protocols[0],
        resolution=joined(one.resolution for one in protocols),
        weights=joined(one.weights for one in protocols),
        matching=joined(one.matching for one in protocols),
    )
    running = [matcher for matcher in matchers if not isinstance(matcher, RecordedMatches)]
    times = time_interleaved(running, timed_pairs(build(config), rounds, device), device) if running else {}
    rows = [
        MatcherRow(name, numbers, float(np.median(times[name])) if name in times else None)
        for name, (numbers, _) in zip(names, measured, strict=True)
    ]
    return rows, protocol


def _score(
    matcher: PairMatcher | RecordedMatches,
    build: Callable[[CN], PairSource],
    config: CN,
    folder: Path,
    device: torch.device,
) -> tuple[dict[str, float], EvaluationProtocol]:
    print(f"{matcher.name}: {matcher.weights}; {matcher.settings}", flush=True)
    own = config
    if not isinstance(matcher, RecordedMatches):  # which are of the sizes that the config says
        own = build_config(overrides=["DATA.POSED_PAIRS.MULTIPLE", str(matcher.multiple)], base=config)
    source = build(own)
    file = re.sub(r"[^a-z0-9]+", "_", matcher.name.lower().replace("*", "-star"))
    header, cache = matcher_header(matcher, source, own), folder / f"{file}.h5"
    match_into_cache(matcher, source, cache, header, device, int(config.DATA.WORKERS))
    settings = EvaluationSettings.of(config.EVAL)
    scores = evaluate(read_cache(cache), settings, header.pairs, choose_jobs(header.pairs))
    return scores.numbers, build_protocol(header, matcher.settings, read_cache(cache), settings)


def timed_pairs(source: PairSource, rounds: int, device: torch.device) -> Iterator[tuple[ImageBatch, ImageBatch]]:
    """Yield one pair for a warm-up and `rounds` more, spread over the source, at `TIMED_SIZE` on `device`."""
    for index in np.linspace(0, len(source) - 1, rounds + 1).round().astype(int):
        pair = source[int(index)]
        yield _timed_image(pair.view0.image, device), _timed_image(pair.view1.image, device)


def _timed_image(image: Tensor, device: torch.device) -> ImageBatch:
    grey, _ = resize(image[0].mul(255).round().to(torch.uint8).numpy(), TIMED_SIZE)
    return ImageBatch(torch.from_numpy(grey)[None, None].float().div(255).to(device))


class Timed(Protocol):
    """What can be timed: a `PairMatcher` or less."""

    @property
    def name(self) -> str:
        """Of its times."""
        ...

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPoints:
        """Match one pair."""
        ...


class MatchedPoints(Protocol):
    """A result with points on the device."""

    @property
    def points0(self) -> Tensor:
        """(M, 2)."""
        ...

    @property
    def points1(self) -> Tensor:
        """(M, 2)."""
        ...


def time_interleaved(
    matchers: Sequence[Timed],
    pairs: Iterator[tuple[ImageBatch, ImageBatch]],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds by `clock` of each run by matcher, from the grey images on `device` to the points on the CPU.

    All matchers take a pair in turn, before the next one, so that whatever else the machine does hits all alike; who is
    first changes from pair to pair. The first pair warms up and is not counted.
    """
    times: dict[str, list[float]] = {matcher.name: [] for matcher in matchers}
    for number, (images0, images1) in enumerate(pairs):
        shift = number % len(matchers)
        for matcher in [*matchers[shift:], *matchers[:shift]]:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            start = clock()
            with torch.inference_mode():
                matched = matcher(images0, images1)
                matched.points0.cpu(), matched.points1.cpu()
            if number:
                times[matcher.name].append(clock() - start)
    return times


def relative_times(rows: Sequence[MatcherRow]) -> dict[str, float | None]:
    """Return each matcher's time over that of XFeat*; None where one of the two was not measured."""
    star = next((row.seconds for row in rows if row.name == XFEAT_STAR), None)
    return {row.name: row.seconds / star if row.seconds and star else None for row in rows}


def table_cells(rows: Sequence[MatcherRow]) -> list[list[str]]:
    """Return the table's head and rows; areas and precision in per cent, "-" where something was not measured."""
    estimators = [key.removesuffix("/failed") for key in rows[0].numbers if key.endswith("/failed")]
    columns = {_areas(name, AUC_THRESHOLDS): [f"{name}/auc@{t:g}" for t in AUC_THRESHOLDS] for name in estimators}
    if "corner/no_homography" in rows[0].numbers:
        columns[f"{_areas('corner', CORNER_THRESHOLDS)} px"] = [f"corner/auc@{t:g}px" for t in CORNER_THRESHOLDS]
    columns["precision@1e-4"] = ["precision@1e-4"]
    head = ["matcher", *columns, "matches", f"s a pair ({TIMED_SIZE[0]}x{TIMED_SIZE[1]})", f"time / {XFEAT_STAR}"]
    ratios = relative_times(rows)
    table = [head]
    for row in rows:
        scores = (" / ".join(_cell(row.numbers.get(key), 1) for key in keys) for keys in columns.values())
        matches = _cell(row.numbers["matches"], 0)
        table.append([row.name, *scores, matches, _cell(row.seconds, 3), _cell(ratios[row.name], 2)])
    return table


def _areas(name: str, thresholds: Sequence[float]) -> str:
    return f"{name} AUC@{'/'.join(f'{threshold:g}' for threshold in thresholds)}"


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def to_table(rows: Sequence[MatcherRow]) -> str:
    """Return the rows as a Markdown table."""
    cells = table_cells(rows)
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    lines = [padded[0], ["-" * width for width in widths], *padded[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_json(path: Path, rows: Sequence[MatcherRow], protocol: EvaluationProtocol, machine: str) -> None:
    """Write protocol, machine and all numbers; what could not be measured is null.

    Raises:
        S2LDError: the file cannot be written.
    """
    content = {"protocol": asdict(protocol), "machine": machine, "matchers": flat_rows(rows)}
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[MatcherRow]) -> None:
    """Write a line for each matcher with all its numbers.

    Raises:
        S2LDError: the file cannot be written.
    """
    flat = flat_rows(rows)
    columns = list(dict.fromkeys(key for line in flat for key in line))
    with whole_file(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(flat)


def flat_rows(rows: Sequence[MatcherRow]) -> list[dict[str, str | float | None]]:
    """Return each matcher's name, numbers, ``seconds`` and ``time_ratio``; None for what could not be measured."""
    ratios = relative_times(rows)
    return [
        {
            "matcher": row.name,
            **{name: value if math.isfinite(value) else None for name, value in row.numbers.items()},
            "seconds": row.seconds,
            "time_ratio": ratios[row.name],
        }
        for row in rows
    ]
