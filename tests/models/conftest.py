from __future__ import annotations

import sys
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[1] / "reference"
sys.path.insert(0, str(REFERENCE))  # parity_weights.py lies beside the recorded outputs


@pytest.fixture
def reference() -> Path:
    return REFERENCE
