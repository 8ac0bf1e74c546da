"""`s2ld benchmark depth INDEX.npz`: our depth maps of a scene beside those that it has, and beside SfM points."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.log import logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from s2ld.data.index.files import SceneIndex
    from s2ld.sfm.depth.options import SweepOptions
    from s2ld.sfm.mapping.model import SparseModel

FEATURES = 3000
"""SIFT features an image."""
FAR_OFF = 0.05
"""Relative difference of two depths that counts as a wrong one."""


@dataclass(frozen=True)
class DepthScore:
    """What was measured over the images of a scene."""

    images: int
    seconds: float
    """Wall-clock seconds an image."""
    cpu_seconds: float
    """Processor seconds an image."""
    coverage: float
    """Mean share of pixels of known depth."""
    stored_coverage: float
    """The same of the scene's own maps."""
    found: float
    """Share of the pixels known in the scene's own maps that ours know too."""
    point_error: float
    """Median relative difference from the triangulated points, over all images."""
    point_outliers: float
    """Share of those differences above `FAR_OFF`."""
    map_error: float
    """Median relative difference from the scene's own maps."""
    map_outliers: float
    """Share of those differences above `FAR_OFF`."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark depth",
        "Depth maps by plane sweep of a scene in MegaDepth's form, whose poses are kept: SIFT points are "
        "triangulated (they tell sources and depth range, and are compared with), then all maps are computed.",
        "scenes/index/place.npz --limit 20",
        former={"--images": "--limit"},
    )
    parser.add_argument("index", type=Path, nargs="+", help="index/SCENE.npz; paths in it are relative to its parent")
    parser.add_argument("--root", type=Path, help="of the paths in the index (default: the index's parent's parent)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N of a scene (default: all)")
    parser.add_argument("--device", default="cpu", help="of the sweeps (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="images at a time (default: %(default)s)")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("OPTION", "VALUE"), help="SweepOptions")
    return parser


def main(argv: Sequence[str] | None = None) -> list[DepthScore]:
    """Run the command and return the scores, one a scene.

    Raises:
        S2LDError: bad arguments, unreadable files, or no pycolmap.
    """
    arguments = build_parser().parse_args(argv)
    need("sfm")
    from s2ld.data.index.files import read_index

    options = _options(arguments.set)
    titles = ("scene", "images", "s", "CPU s", "known", "stored", "found", "points: median", "> 5 %", "maps: median")
    print(" | ".join((*titles, "> 5 %")))
    scores = []
    for path in arguments.index:
        index = read_index(path)
        root = arguments.root or path.resolve().parents[1]
        with tempfile.TemporaryDirectory() as folder:
            model = triangulate(root, index, arguments.limit, Path(folder))
            score = measure(root, index, model, options, arguments.device, arguments.jobs, Path(folder))
        scores.append(score)
        print(
            f"{path.stem} | {score.images} | {score.seconds:.2f} | {score.cpu_seconds:.2f} | {score.coverage:.1%} | "
            f"{score.stored_coverage:.1%} | {score.found:.1%} | {score.point_error:.3%} | {score.point_outliers:.2%} | "
            f"{score.map_error:.3%} | {score.map_outliers:.2%}",
            flush=True,
        )
    return scores


def triangulate(root: Path, index: SceneIndex, count: int | None, work: Path) -> SparseModel:
    """Return SIFT points of the first `count` images of a scene, triangulated by COLMAP with the poses kept."""
    import numpy as np

    from s2ld.data.images.reading import read_image
    from s2ld.sfm.mapping.colmap import load_pycolmap
    from s2ld.sfm.mapping.model import SparseModel

    pycolmap = load_pycolmap()
    names = [str(path) for path in index.image_paths[:count]]
    sizes = np.array([read_image(root / name, grey=True, upright=False).shape[::-1] for name in names])
    database_path = work / "database.db"
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    extraction.use_gpu = matching.use_gpu = False
    extraction.sift.max_num_features = FEATURES
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "PINHOLE"
    pycolmap.extract_features(database_path, root, names, pycolmap.CameraMode.PER_IMAGE, reader, extraction)
    known = pycolmap.Reconstruction()
    rows = {name: row for row, name in enumerate(names)}
    with pycolmap.Database.open(database_path) as database:
        for image in database.read_all_images():
            row = rows[image.name]
            camera, K = database.read_camera(image.camera_id), index.intrinsics[row]
            camera.params = [K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5]  # COLMAP's pixel corner is (0, 0)
            camera.has_prior_focal_length = True
            database.update_camera(camera)
            known.add_camera_with_trivial_rig(camera)
            given = pycolmap.Image(image.name, camera_id=image.camera_id, image_id=image.image_id)
            known.add_image_with_trivial_frame(given, pycolmap.Rigid3d(index.poses[row][:3]))
    pycolmap.match_exhaustive(database_path, matching)
    (work / "sparse").mkdir()
    sparse = pycolmap.triangulate_points(known, database_path, root, work / "sparse")
    order = {identity: number for number, identity in enumerate(sorted(sparse.points3D))}
    visible: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(names)
    for image in sparse.images.values():
        seen = {order[point.point3D_id] for point in image.points2D if point.has_point3D()}
        visible[rows[image.name]] = np.array(sorted(seen), np.int64)
    points = np.array([sparse.points3D[identity].xyz for identity in order]).reshape(-1, 3)
    K, poses = np.array(index.intrinsics[: len(names)]), np.array(index.poses[: len(names)])
    return SparseModel(names, sizes, K, poses, points, visible)


def measure(
    root: Path, index: SceneIndex, model: SparseModel, options: SweepOptions, device: str, jobs: int, work: Path
) -> DepthScore:
    """Compute all maps and compare them with the points and with the scene's own maps."""
    import numpy as np

    from s2ld.data.images.photo_files import depth_map
    from s2ld.sfm.depth.depth_maps import compute_depths, point_errors

    start, cpu = time.perf_counter(), _cpu_seconds()
    reports = compute_depths(model, root, work / "out", options, device, jobs=jobs)
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
    coverages, of_points, of_maps = [], [], []
    for image, report in enumerate(reports):
        depth, stored = depth_map(report.path), depth_map(root / str(index.depth_paths[image]))
        both = (depth > 0) & (stored > 0)
        coverages.append((report.coverage, (stored > 0).mean(), both.sum() / max(1, (stored > 0).sum())))
        of_points.append(point_errors(model, image, depth))
        of_maps.append(np.abs(depth[both] / stored[both] - 1))
        if report.reason:
            logger.warning("{}: {}", report.name, report.reason)
    points, maps = np.concatenate(of_points), np.concatenate(of_maps)
    if not len(points) or not len(maps):
        raise S2LDError(f"{index.name}: no depth to compare; are the options too strict?")
    means = np.array(coverages).mean(0)
    return DepthScore(
        len(model),
        seconds / len(model),
        cpu / len(model),
        *(float(mean) for mean in means),
        *(float(value) for values in (points, maps) for value in (np.median(values), (values > FAR_OFF).mean())),
    )


def _options(pairs: Sequence[Sequence[str]]) -> SweepOptions:
    from s2ld.sfm.depth.options import SweepOptions

    options = SweepOptions()
    known = {field.name for field in fields(options)}
    for name, value in pairs:
        if name not in known:
            raise S2LDError(f"--set {name}: no such option; there are {', '.join(sorted(known))}")
        kind = type(getattr(options, name))
        try:
            options = replace(options, **{name: kind(value)})
        except ValueError as error:
            raise S2LDError(f"--set {name} {value}: {error}") from error
    return options


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark depth", body)
