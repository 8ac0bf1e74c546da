"""test.py of which UNLUCKY=RANK:PAIRS kills a process when it has predicted so many pairs."""

from __future__ import annotations

import os
import signal
import sys

from s2ld.cli.evaluate.test import script
from s2ld.evaluation.predictions.shared_out import Predictor
from s2ld.types import PairBatch

predict = Predictor.predict_step


def _step(predictor: Predictor, batch: PairBatch, batch_idx: int) -> None:
    rank, pairs = map(int, os.environ["UNLUCKY"].split(":"))
    if predictor.global_rank == rank and batch_idx == pairs:
        os.kill(os.getpid(), signal.SIGKILL)
    predict(predictor, batch, batch_idx)


if __name__ == "__main__":
    if os.environ.get("UNLUCKY"):
        Predictor.predict_step = _step  # type: ignore[method-assign]
    sys.exit(script(sys.argv[1:]))
