"""Making the cache of candidates: the training pairs of a config pass the frozen network, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from s2ld.config import CN, config_keys, value_of
from s2ld.data.datamodule import PairDataModule, pair_loader
from s2ld.data.sample import PairSource
from s2ld.data.sources.by_name import build_mixture
from s2ld.errors import S2LDError
from s2ld.log import Progress, logger
from s2ld.models.consensus.stage import gather_candidates
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.models.network import S2LD
from s2ld.models.precision import resolve_precision
from s2ld.training.consensus.cache import Header, complete_cache
from s2ld.training.consensus.candidates import CandidatePair, Size, collate_candidates
from s2ld.training.consensus.labels import candidate_errors
from s2ld.training.consensus.source import CachedCandidates
from s2ld.training.loop.precision import AUTO
from s2ld.training.losses.targets import build_targets
from s2ld.types import PairBatch, View

_MODEL = "MODEL."
_JUDGING = (
    *(f"MODEL.CONSENSUS.{name}" for name in ("ENABLED", "NEIGHBOURS", "ROUNDS", "HIDDEN_DIM")),
    *("MODEL.MATCH.THRESHOLD", "MODEL.FINE.THRESHOLD", "MODEL.SCORE_FILTER.", "MODEL.DESCRIPTORS"),
)
"""Of the model: what comes after the candidates."""
_SOURCES = "DATA."
_ELSEWHERE = (
    *("DATA.VAL_", "DATA.TEST_", "DATA.BATCH_SIZE", "DATA.WORKERS", "DATA.OVERFIT_PAIRS", "DATA.ON_BAD_PAIR"),
    *("DATA.POSED_PAIRS.", "DATA.SCANNET.", "DATA.HPATCHES.", "DATA.MEGADEPTH.VAL_", "DATA.MEGADEPTH.TEST_"),
    "DATA.MEGADEPTH.CACHE_MB",
)
"""Of the data: what does not change the training pairs."""
_FURTHER = ("TARGETS.DEPTH_TOLERANCE", "TARGETS.CYCLE_RADIUS", "TRAIN.PRECISION", "TRAIN.CANDIDATES.PAIRS")


def candidate_data(source: CachedCandidates, config: CN) -> PairDataModule:
    """Return the data of stage consensus: cached candidates to train on, images to validate.

    The cache is made before, from the network of the module that is trained.

    Args:
        source: of the candidates.
        config: the whole config.

    Raises:
        S2LDError: a setting that the stage does not know.
    """
    if config.DATA.OVERFIT_PAIRS:
        raise S2LDError("TRAIN.STAGE consensus has no DATA.OVERFIT_PAIRS; set it to 0")
    if not config.TRAIN.INIT_WEIGHTS:
        raise S2LDError("TRAIN.STAGE consensus learns on what a trained network finds; set TRAIN.INIT_WEIGHTS")

    def prepare(trainer: pl.Trainer) -> None:
        network: S2LD = trainer.lightning_module.averaged  # type: ignore[assignment]
        make_cache(source.path, network, config, trainer.strategy.root_device)

    return PairDataModule(config, cast("PairSource", source), train_collate=collate_candidates, prepare=prepare)


def make_cache(path: Path, network: S2LD, config: CN, device: torch.device) -> None:
    """See to it that the candidates of a network and a config are cached.

    Args:
        path: of the cache.
        network: with a consensus, whose weights do not count.
        config: the whole config.
        device: that computes.

    Raises:
        S2LDError: the cache is of another network or config, or cannot be written; what the sources say of their files.
    """
    pairs = int(config.TRAIN.CANDIDATES.PAIRS)
    make = partial(make_pairs, network, config, device)
    made = complete_cache(path, header_of(network, config), pairs, make)
    size = path.stat().st_size / 2**20
    logger.info(f"{path}: {pairs} pairs of candidates, {size:.0f} MiB{'' if made else ', are there'}")


def header_of(network: S2LD, config: CN) -> Header:
    """Return what the candidates depend on: settings by name, and the SHA-256 of the weights but the consensus's."""
    keys = [
        key
        for key in config_keys(config)
        if (key.startswith(_MODEL) and not key.startswith(_JUDGING))
        or (key.startswith(_SOURCES) and not key.startswith(_ELSEWHERE))
        or key in _FURTHER
    ]
    digest = sha256()
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith("consensus."):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return {"weights": digest.hexdigest(), **{key: value_of(config, key) for key in keys}}


@torch.inference_mode()
def make_pairs(network: S2LD, config: CN, device: torch.device, first: int) -> Iterator[CandidatePair]:
    """Yield the candidates of the training pairs from number `first` on, at inference speed, with a progress bar."""
    pairs = int(config.TRAIN.CANDIDATES.PAIRS)
    fast = for_inference(network).to(device)
    name = config.TRAIN.PRECISION
    precision = resolve_precision("auto", device) if name == AUTO else "bf16" if name.startswith("bf16") else "fp32"
    loader = pair_loader(build_mixture(config), config, sampler=range(first, pairs), batch_size=1)
    for batch in Progress(loader, desc="candidates", unit="pair", initial=first, total=pairs):
        yield _candidates_of(fast, batch.to(device), config, precision)


def _candidates_of(network: S2LD, batch: PairBatch, config: CN, precision: str) -> CandidatePair:
    with computing_in(precision, batch.T_0to1.device):
        encoded = network.encode(batch.view0.images, batch.view1.images)
        coarse, fine = network.candidates(encoded, batch.view0.images.mask, batch.view1.images.mask)
        candidates = gather_candidates(encoded, coarse, fine)
    targets = build_targets(encoded, batch, config.TARGETS)
    errors = candidate_errors(coarse, fine, targets, batch).to("cpu")
    kept = replace(
        candidates.to("cpu"),
        points0=_single(candidates.points0),
        points1=_single(candidates.points1),
        evidence=_single(candidates.evidence),
        descriptors0=_half(candidates.descriptors0),
        descriptors1=_half(candidates.descriptors1),
    )
    return CandidatePair(kept, errors, batch.sources[0], batch.names[0], (_size(batch.view0), _size(batch.view1)))


def _single(values: Tensor) -> Tensor:
    return values.float().cpu()


def _half(values: Tensor) -> Tensor:
    return values.half().cpu()


def _size(view: View) -> Size:
    height, width = view.images.image.shape[-2:]
    return width, height
