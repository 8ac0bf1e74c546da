from __future__ import annotations

import pytest

from s2ld.benchmarks.stages import Stage, measure_rates, measure_stages, stage_table
from s2ld.models.fast import convolution


def test_stages_of_the_paper_configuration_and_their_operations() -> None:
    stages = {stage.name: stage for stage in measure_stages("fp32", (64, 64), 8, 1)}
    assert list(stages)[-2:] == ["sparse matching", "fine stage"]
    assert all(stage.seconds > 0 for stage in stages.values())
    # 8 layers, 2 images, 64 cells: four 256², one 512² and one 512×256 product, and twice 32 channels of 8 heads
    products = 4 * 256**2 + 512**2 + 512 * 256
    assert stages["coarse transformer"].gflop == pytest.approx(
        8 * 2 * 64 * 2 * (products + 2 * 256 * 32.5) / 1e9, rel=0.01
    )
    # the seven layers of the detector on 8×8 cells of two images, the first of the fine map at twice the resolution
    detector = 9 * (256 * 256 + 256 * 128 + 128 * 64 + 2 * (192 * 256 + 256 * 128) + 128 * 3) + 4 * 25 * 128 * 128
    assert stages["detector"].gflop == pytest.approx(2 * 2 * 64 * detector / 1e9, rel=0.01)


def test_table_adds_up() -> None:
    table = stage_table([Stage("a", 1.0, 30.0), Stage("b", 3.0, 50.0)], 40.0)
    assert table[1] == ["a", "1.000", "25.0%", "30.0", "30", "75%"]
    assert table[-1] == ["all", "4.000", "100.0%", "80.0", "20", "50%"]


def test_rates_are_of_this_processor() -> None:
    assert all(0.1 < rate < 1e5 for rate in measure_rates("fp32", 1).values())


def test_operations_are_those_of_the_definition_where_fewer_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = measure_stages("fp32", (64, 64), 8, 1)
    monkeypatch.setattr(convolution, "LEAST_NUMBERS", 0)
    fewer = measure_stages("fp32", (64, 64), 8, 1)
    assert [stage.gflop for stage in fewer] == [stage.gflop for stage in plain]
