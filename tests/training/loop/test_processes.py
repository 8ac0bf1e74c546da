"""Which errors of a reduction mean that another process has gone."""

from __future__ import annotations

import pytest
import torch

from s2ld.training.loop.processes import LOST, lost_peer


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection closed by peer"), LOST),
        (torch.distributed.DistBackendError("NCCL communicator was aborted\nat ..."), f"{LOST} (NCCL communicator was"),
        (RuntimeError("shape mismatch"), None),
    ],
)
def test_a_lost_process_is_told_from_a_defect(error: RuntimeError, line: str | None) -> None:
    said = lost_peer(error)
    assert said is None if line is None else str(said).startswith(line)
    assert "\n" not in str(said)
