from pathlib import Path

import pytest

from s2ld.errors import S2LDError
from s2ld.sfm.matching.cost import Cost, Rate, cost_of, refuse_unless_agreed
from s2ld.sfm.matching.storage.features import MEMORY

RATE = Rate(extract=0.2, match=0.5, features=12_000_000, image=170_000, pair=60_000)


def test_what_a_folder_takes() -> None:
    cost = cost_of(2000, 40_000, RATE, 1)
    assert cost.seconds == pytest.approx(20_400)
    assert cost.scratch == 2000 * 12_000_000 - MEMORY
    assert cost.disk == 340_000_000 + 7_200_000_000
    assert str(cost) == "40,000 pairs, about 5.7 hours, 7.5 GB on the disk and 22.9 GB meanwhile"
    two = cost_of(2000, 40_000, RATE, 2)
    assert (two.seconds, two.scratch) == (pytest.approx(10_200), 24_000_000_000)
    assert cost_of(10, 45, RATE, 1).scratch == 0


@pytest.mark.parametrize(
    ("seconds", "told"), [(20, "20 s"), (600, "10 minutes"), (7200, "2.0 hours"), (2e6, "23 days")]
)
def test_durations(seconds: float, told: str) -> None:
    assert f"about {told}," in str(Cost(1, 1, seconds, 0, 0))


def test_a_day_and_a_full_disk_are_refused_unless_agreed(tmp_path: Path) -> None:
    refuse_unless_agreed(Cost(1, 1, 86_000, 0, 1000), tmp_path, agreed=False)
    long, large = Cost(1, 1, 87_000, 0, 1000), Cost(1, 1, 1, 0, 10**18)
    with pytest.raises(S2LDError, match="more than a day; add --yes"):
        refuse_unless_agreed(long, tmp_path, agreed=False)
    with pytest.raises(S2LDError, match="are free; make room"):
        refuse_unless_agreed(large, tmp_path, agreed=False)
    for cost in (long, large):
        refuse_unless_agreed(cost, tmp_path, agreed=True)
