"""First step of an evaluation: the network over all pairs of a source, into a cache."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from s2ld.config import CN
from s2ld.data.sample import PairSource, collate
from s2ld.errors import S2LDError, as_one_line
from s2ld.evaluation.matchers.interface import MatchedPair, PairMatcher
from s2ld.evaluation.matchers.recorded import RecordedMatches
from s2ld.evaluation.predictions.cache import CacheHeader, PairPrediction, PairTruth, read_header
from s2ld.evaluation.predictions.unfinished import complete_cache
from s2ld.geometry.warp import warp_by_depth
from s2ld.log import Progress
from s2ld.models.network import S2LD
from s2ld.types import FloatArray, PairBatch, View

Match = Callable[[PairBatch], MatchedPair]
NEAREST_CHUNK = 1024  # keypoints whose distances to all others are held at a time


def build_header(model: S2LD, weight: Path, source: PairSource, config: CN) -> CacheHeader:
    """Return what the predictions of `model` on the source DATA.TEST_SOURCE depend on."""
    digest = hashlib.sha256(weight.read_bytes()).hexdigest()
    return _header(weight.name, digest, str(model.config.dump()), source, config)


def matcher_header(matcher: PairMatcher | RecordedMatches, source: PairSource, config: CN) -> CacheHeader:
    """Return what the predictions of any matcher on the source DATA.TEST_SOURCE depend on."""
    return _header(matcher.weights, matcher.digest, matcher.model, source, config)


def _header(weights: str, digest: str, model: str, source: PairSource, config: CN) -> CacheHeader:
    return CacheHeader(
        weights=weights,
        digest=digest,
        source=config.DATA.TEST_SOURCE,
        pairs=len(source),
        model=model,
        data=str(config.DATA.dump()),
        depth_tolerance=float(config.TARGETS.DEPTH_TOLERANCE),
    )


def network_match(model: S2LD) -> Match:
    """Return the network, in evaluation mode, as a function of a batch of one pair on its device."""

    def match(batch: PairBatch) -> MatchedPair:
        return MatchedPair.of(model(batch.view0.images, batch.view1.images))

    return match


def matcher_match(matcher: PairMatcher | RecordedMatches) -> Match:
    """Return any matcher as a function of a batch of one pair."""
    if isinstance(matcher, RecordedMatches):
        return matcher

    def match(batch: PairBatch) -> MatchedPair:
        return matcher(batch.view0.images, batch.view1.images)

    return match


def check_records(matcher: RecordedMatches, source: PairSource, workers: int) -> None:
    """See to it, before any is used, that the files of matches hold all pairs.

    Raises:
        S2LDError: what `RecordedMatches` says of its files.
    """
    progress = Progress(
        batches(source, range(len(source)), workers), desc="look up records", unit="pair", total=len(source)
    )
    matcher.check([batch.names[0] for batch in progress])


def predict_into_cache(
    model: S2LD, source: PairSource, path: str | Path, header: CacheHeader, device: torch.device, workers: int = 0
) -> bool:
    """Run the network over all pairs and write the cache, unless one of the same header is there (`complete_cache`).

    Args:
        model: in evaluation mode, on `device`.
        source: the pairs; taken one at a time, so that nothing is padded and numbers do not depend on a batch size.
        path: of the cache.
        header: what the predictions depend on (`build_header`).
        device: where the network runs.
        workers: loader processes.

    Returns:
        Whether it predicted; False when the cache could be kept.
    """
    return _into_cache(network_match(model), source, path, header, device, workers)


def match_into_cache(
    matcher: PairMatcher | RecordedMatches,
    source: PairSource,
    path: str | Path,
    header: CacheHeader,
    device: torch.device,
    workers: int = 0,
) -> bool:
    """As `predict_into_cache`, with any matcher in the network's place.

    Raises:
        S2LDError: too, what `RecordedMatches` says of its files.
    """
    if isinstance(matcher, RecordedMatches) and read_header(path) != header:
        check_records(matcher, source, workers)
    return _into_cache(matcher_match(matcher), source, path, header, device, workers)


def _into_cache(
    match: Match, source: PairSource, path: str | Path, header: CacheHeader, device: torch.device, workers: int
) -> bool:
    def predict(todo: Sequence[int]) -> Iterator[PairPrediction]:
        progress = {"total": len(source), "initial": len(source) - len(todo)}
        for batch in Progress(batches(source, todo, workers), desc="predict", unit="pair", **progress):
            with torch.inference_mode():
                yield predicted(match, batch.to(device), header)

    return complete_cache(path, header, predict)


def predicted(match: Match, batch: PairBatch, header: CacheHeader) -> PairPrediction:
    """Match a batch of one pair, on the device of the matcher, and hold it against the truth."""
    return _to_arrays(match(batch), batch, header.depth_tolerance)


def pair_batches(source: PairSource, numbers: Sequence[int], workers: int) -> DataLoader[PairBatch]:
    """Return a loader of the pairs of these numbers, each as a batch."""
    return DataLoader(
        source,  # type: ignore[arg-type]  # a PairSource is a map-style data set in all but its base class
        batch_size=1,
        sampler=numbers,
        num_workers=workers,
        collate_fn=collate,
    )


def batches(source: PairSource, numbers: Sequence[int], workers: int) -> Iterator[PairBatch]:
    """Yield the pairs of these numbers, each as a batch.

    Raises:
        S2LDError: one cannot be read.
    """
    try:
        yield from pair_batches(source, numbers, workers)
    except S2LDError as error:  # a loader process hands it over with its traceback as text, of which the end is ours
        raise as_one_line(error) from error


def _to_arrays(matched: MatchedPair, batch: PairBatch, tolerance: float) -> PairPrediction:
    return PairPrediction(
        batch.names[0],
        (_size(batch.view0), _size(batch.view1)),
        _numpy(matched.points0),
        _numpy(matched.points1),
        _numpy(matched.confidence),
        _numpy(matched.score),
        _numpy(batch.view0.K[0]),
        _numpy(batch.view1.K[0]),
        _numpy(batch.view0.scale[0]),
        _numpy(batch.view1.scale[0]),
        _numpy(batch.T_0to1[0]),
        None if batch.view0.depth is None else _truth(matched, batch, tolerance),
        None if batch.homography is None else _numpy(batch.homography[0]),
        batch.sources[0],
    )


def _truth(matched: MatchedPair, batch: PairBatch, tolerance: float) -> PairTruth:
    points0, keypoints0, keypoints1 = (
        points.to(batch.T_0to1) for points in (matched.points0, matched.keypoints0, matched.keypoints1)
    )
    warped = warp_by_depth(points0[None], batch.view0, batch.view1, batch.T_0to1, tolerance)
    keypoints = warp_by_depth(keypoints0[None], batch.view0, batch.view1, batch.T_0to1, tolerance)
    visible = keypoints.points[0][keypoints.valid[0]]
    return PairTruth(
        _numpy(warped.points[0]),
        warped.known[0].cpu().numpy(),
        warped.valid[0].cpu().numpy(),
        _numpy(_nearest_distance(visible, keypoints1)),
    )


def _nearest_distance(points: Tensor, others: Tensor) -> Tensor:
    """Return (Q,) distances from `points` (Q, 2) to the nearest of `others` (S, 2), infinite where there is none."""
    if not len(others):
        return points.new_full((len(points),), math.inf)
    # the default way through a matrix product loses a tenth of a pixel in float32
    chunks = [
        torch.cdist(chunk, others, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        for chunk in torch.split(points, NEAREST_CHUNK)
    ]
    return torch.cat(chunks) if chunks else points.new_zeros(0)


def _size(view: View) -> tuple[int, int]:
    height, width = view.images.image.shape[-2:]
    return int(width), int(height)


def _numpy(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.float().cpu().numpy())
