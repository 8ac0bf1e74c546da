"""Every measure once more: loops over plain Python numbers, from the definitions, sharing no code with the package."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

Matrix = Sequence[Sequence[float]]
Vector = Sequence[float]


def times(A: Matrix, B: Matrix) -> list[list[float]]:
    return [[sum(A[i][k] * B[k][j] for k in range(len(B))) for j in range(len(B[0]))] for i in range(len(A))]


def apply(A: Matrix, x: Vector) -> list[float]:
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in A]


def transposed(A: Matrix) -> list[list[float]]:
    return [list(column) for column in zip(*A, strict=True)]


def inverse(A: Matrix) -> list[list[float]]:
    """By cofactors, of a 3x3 matrix."""

    def minor(i: int, j: int) -> float:
        (a, b), (c, d) = ([A[r][s] for s in range(3) if s != j] for r in range(3) if r != i)
        return a * d - b * c

    determinant = sum((-1) ** j * A[0][j] * minor(0, j) for j in range(3))
    return [[(-1) ** (i + j) * minor(j, i) / determinant for j in range(3)] for i in range(3)]


def recall_area(errors: Sequence[float], threshold: float) -> float:
    """Area under the recall curve by the midpoint rule on each of its pieces, over the threshold.

    The curve starts at (0, 0), goes straight from one sorted error to the next and rises by 1 / n at each, and is level
    from the last error below the threshold on.
    """
    ordered = sorted(errors)
    corners = [(0.0, 0.0)]
    for number, error in enumerate(ordered, start=1):
        if error < threshold:
            corners.append((error, number / len(ordered)))
    corners.append((threshold, corners[-1][1]))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(corners):
        strips = 10
        for strip in range(strips):
            middle = (strip + 0.5) / strips
            area += (y0 + middle * (y1 - y0)) * (x1 - x0) / strips
    return area / threshold


def pose_error(T: Matrix, R: Matrix, t: Vector) -> float:
    """Degrees: the rotation by the length of a difference of matrices, the direction by that of unit vectors."""
    chord = math.sqrt(sum((T[i][j] - R[i][j]) ** 2 for i in range(3) for j in range(3)))  # 2 sqrt(2) sin(angle / 2)
    rotation = 2 * math.asin(min(1.0, chord / math.sqrt(8)))
    truth = [T[i][3] for i in range(3)]
    if all(value == 0 for value in truth):
        return math.degrees(rotation)
    if all(value == 0 for value in t):
        return max(math.degrees(rotation), 90.0)
    a, b = ([value / math.hypot(*v) for value in v] for v in (truth, t))
    apart, summed = (math.hypot(*(x + sign * y for x, y in zip(a, b, strict=True))) for sign in (-1, 1))
    direction = 2 * math.asin(min(1.0, min(apart, summed) / 2))
    return math.degrees(max(rotation, direction))


def epipolar_distance(point0: Vector, point1: Vector, K0: Matrix, K1: Matrix, T: Matrix) -> float:
    """Squared, in normalised coordinates: of each ray's point from the line of the other's, summed."""
    ray0, ray1 = apply(inverse(K0), [*point0, 1.0]), apply(inverse(K1), [*point1, 1.0])
    x, y, z = (T[i][3] for i in range(3))
    E = times([[0, -z, y], [z, 0, -x], [-y, x, 0]], [row[:3] for row in T[:3]])
    total = 0.0
    for point, line in ((ray1, apply(E, ray0)), (ray0, apply(transposed(E), ray1))):
        away = sum(a * b for a, b in zip(point, line, strict=True)) / math.hypot(line[0], line[1])
        total += away**2
    return total


def to_image(point: Vector, scale: Vector, frame: str) -> list[float]:
    """From resized to image px."""
    if frame == "lineage":
        return [p * s for p, s in zip(point, scale, strict=True)]
    return [(p + 0.5) * s - 0.5 for p, s in zip(point, scale, strict=True)]


def image_intrinsics(K: Matrix, scale: Vector) -> list[list[float]]:
    """Of the image, from those in resized px; pixel edges aligned."""
    sx, sy = scale
    return [
        [K[0][0] * sx, K[0][1] * sx, (K[0][2] + 0.5) * sx - 0.5],
        [0, K[1][1] * sy, (K[1][2] + 0.5) * sy - 0.5],
        [0, 0, 1],
    ]


def mapped(H: Matrix, point: Vector) -> list[float]:
    x, y, w = apply(H, [*point, 1.0])
    return [x / w, y / w]


def corner_error(H: Matrix | None, truth: Matrix, width: int, height: int) -> float:
    if H is None:
        return math.inf
    corners = [(x, y) for x in (0, width - 1) for y in (0, height - 1)]
    return sum(math.dist(mapped(H, corner), mapped(truth, corner)) for corner in corners) / 4


def reprojection_error(H: Matrix, point0: Vector, point1: Vector, scale1: Vector) -> float:
    """Px of image 1 as given, of points in resized px."""
    return math.dist(to_image(mapped(H, point0), scale1, "edge"), to_image(point1, scale1, "edge"))


def share(values: Sequence[float], threshold: float) -> float:
    """Of the values below a threshold: the precision of a pair, or one point of its MMA curve."""
    below = 0
    for value in values:
        if value < threshold:
            below += 1
    return below / len(values) if values else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def quantile(values: Sequence[float], share: float) -> float:
    """Straight between the sorted values, the first of which is at 0 and the last at 1."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = min(math.floor(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def interval(
    statistic: Callable[[list[int]], float], draws: Sequence[Sequence[int]], coverage: float = 0.95
) -> tuple[float, float]:
    """Of a statistic of chosen pairs, over lists of them that were drawn with replacement."""
    values = [statistic([int(i) for i in draw]) for draw in draws]
    return quantile(values, (1 - coverage) / 2), quantile(values, (1 + coverage) / 2)
