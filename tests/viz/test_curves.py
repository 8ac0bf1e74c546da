"""Pictures of curves."""

import math

import numpy as np
import pytest

from s2ld.viz.curves import draw_cumulative


@pytest.mark.parametrize(
    ("errors", "end"),
    [
        ([*np.linspace(0, 4, 95), 8, 17, 25, math.inf, 90], 5.0),
        (np.linspace(0, 9, 100), 10.0),
        ([1.0, 2.0, math.inf, math.inf], 30.0),
    ],
)
def test_axis_ends_where_most_errors_are_below(errors: list[float], end: float) -> None:
    (axes,) = draw_cumulative({"some": list(errors), "better": [1.0]}, 30.0, (5.0, 10.0, 20.0), "degrees").axes
    assert axes.get_xlim() == (0.0, end)
    assert axes.lines[0].get_xdata()[-1] == end
