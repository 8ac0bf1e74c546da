"""Which errors of a reduction mean that another process has gone."""

from __future__ import annotations

import pytest
import torch

from s2ld.processes.ddp import lost_peer
from s2ld.processes.peers import TRAINING


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection closed by peer"), TRAINING.lost),
        (
            torch.distributed.DistBackendError("NCCL communicator was aborted\nat ..."),
            f"{TRAINING.lost} (NCCL communicator was",
        ),
        (RuntimeError("shape mismatch"), None),
    ],
)
def test_a_lost_process_is_told_from_a_defect(error: RuntimeError, line: str | None) -> None:
    said = lost_peer(error, TRAINING)
    assert said is None if line is None else str(said).startswith(line)
    assert "\n" not in str(said)
