"""Section `shift`: whether errors are locked to the cells."""

from __future__ import annotations

import numpy as np
import torch

from s2ld.benchmarks.outcome import Outcome
from s2ld.evaluation.shifts import NAMES, SHIFTS, pictures, shift_errors
from s2ld.matcher import Matcher
from s2ld.models.checkpoint import load_model
from s2ld.pretrained import DEFAULT, resolve

LARGEST = 0.05
"""px: target for the largest mean error."""


def measure(threads: int, names: tuple[str, ...] = NAMES) -> list[Outcome]:
    """Six pictures of 360x240 px against their copies shifted by 0 to 7 px, by Lite without and with MODEL.REFINEMENT.

    The mean error in x of matches that are right within 2 px, mean over the pictures; in brackets by shift.

    Args:
        threads: of the processor.
        names: of the pictures.

    Raises:
        S2LDError: scikit-image, which ships the pictures, is not installed.
    """
    torch.set_num_threads(threads)
    images, outcomes = pictures(names), []
    for enabled in (False, True):
        network, _ = load_model(resolve(DEFAULT), model_overrides=("MODEL.REFINEMENT.ENABLED", str(enabled)))
        errors = np.nanmean(shift_errors(Matcher(network, max_side=-1, device="cpu"), images, SHIFTS), 0)
        title = f"largest mean error, {'with' if enabled else 'without'} refinement"
        by_shift = ", ".join(f"{error:+.3f}" for error in errors)
        outcomes.append(
            Outcome(title, float(np.abs(errors).max()), "px", LARGEST if enabled else None, note=f"({by_shift})")
        )
    return outcomes
