"""How many of the pairs worth matching a choice of partners finds: scenes whose overlaps are known, in one folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2ld.data.index.files import read_indices
from s2ld.errors import S2LDError
from s2ld.files import make_folder
from s2ld.sfm.mapping.cameras import group_cameras
from s2ld.sfm.mapping.colmap import load_pycolmap
from s2ld.sfm.matching.colmap_database import write_database
from s2ld.sfm.matching.pairs import Pair
from s2ld.sfm.photos.usable import PhotoFolder

WORDS, SAMPLES, ITERATIONS = 16_384, 400_000, 10
"""Words of the vocabulary tree, SIFT features of the folder from which it is made, and steps of k-means."""


@dataclass(frozen=True)
class TruePairs:
    """The pairs of a scene that see the same."""

    scene: str
    overlap: dict[tuple[str, str], float]
    """Names in the joined folder, the smaller first, and the overlap, in (0, 1]."""


def join_scenes(roots: Sequence[Path], others: Sequence[Path], folder: Path, least: float) -> list[TruePairs]:
    """Link the photographs of all scenes, and others of which nothing is known, into one folder.

    Args:
        roots: folders in MegaDepth's form, with their index in `index`.
        others: folders of photographs.
        folder: to link into; `folder`/SCENE/NAME.
        least: overlap above which a pair counts.

    Raises:
        S2LDError: an index or a photograph is missing, or a link cannot be made.
    """
    scenes = []
    for root in roots:
        for index in read_indices(root / "index"):
            names = [f"{index.name}/{Path(path).name}" for path in index.image_paths.tolist()]
            for name, path in zip(names, index.image_paths.tolist(), strict=True):
                _link(root / path, folder / name)
            kept = [
                (sorted((names[i], names[j])), value) for (i, j), value in _above(index.pairs, index.overlap, least)
            ]
            scenes.append(TruePairs(index.name, {(first, second): value for (first, second), value in kept}))
    for other in others:
        files = sorted(path for path in other.iterdir() if path.is_file())
        for path in files:
            _link(path, folder / other.resolve().name / path.name)
    return scenes


def share_found(chosen: Collection[tuple[str, str]], true: TruePairs) -> float:
    """Return the share of true pairs that are among those chosen, each with the smaller name first; NaN of none."""
    return float(np.mean([pair in chosen for pair in true.overlap])) if true.overlap else float("nan")


def most_overlapping(true: TruePairs, partners: int) -> set[tuple[str, str]]:
    """Return each photograph with the `partners` that overlap most: what a choice can hardly surpass."""
    of_image: dict[str, list[tuple[float, tuple[str, str]]]] = {}
    for pair, value in true.overlap.items():
        for name in pair:
            of_image.setdefault(name, []).append((value, pair))
    return {pair for found in of_image.values() for _, pair in sorted(found, reverse=True)[:partners]}


def tree_pairs(folder: PhotoFolder, scratch: Path, partners: int, seed: int, threads: int) -> list[Pair]:
    """Return each photograph with its partners by pycolmap's vocabulary tree, made of the folder's own SIFT features.

    Args:
        folder: the photographs.
        scratch: folder for `sift.db`, which is kept, and for the tree.
        partners: of each.
        seed: of the features that are drawn.
        threads: at most; -1: one a core.

    Raises:
        S2LDError: no pycolmap, or too old a one.
    """
    pycolmap = load_pycolmap()
    names = [photo.name for photo in folder.photos]
    database, tree = scratch / "sift.db", scratch / "tree.bin"
    if not database.exists():
        part = scratch / "sift.part.db"
        part.unlink(missing_ok=True)
        write_database(part, names, group_cameras(folder.photos, shared=True))
        options = pycolmap.FeatureExtractionOptions()
        options.use_gpu, options.num_threads = False, threads
        pycolmap.extract_features(part, folder.folder, names, extraction_options=options, device=pycolmap.Device.cpu)
        part.replace(database)
    opened = pycolmap.Database.open(database)
    ids = {image.image_id: names.index(image.name) for image in opened.read_all_images()}
    _write_tree(opened, list(ids), tree, seed, threads)
    pairing = pycolmap.VocabTreePairingOptions()
    # the photograph itself is among those that look most like it
    pairing.vocab_tree_path, pairing.num_images, pairing.num_threads = str(tree), partners + 1, threads
    found = pycolmap.VocabTreePairGenerator(pairing, opened).all_pairs()
    opened.close()
    return sorted({(min(ids[a], ids[b]), max(ids[a], ids[b])) for a, b in found if a != b})


def _write_tree(opened: object, ids: Sequence[int], path: Path, seed: int, threads: int) -> None:
    pycolmap = load_pycolmap()
    random, each = np.random.default_rng(seed), -(-SAMPLES // len(ids))
    drawn = []
    for image in ids:
        found = opened.read_descriptors(image).data  # type: ignore[attr-defined]
        drawn.append(found[random.permutation(len(found))[:each]].astype(np.float32))
    features = pycolmap.FeatureDescriptorsFloat(pycolmap.FeatureExtractorType.SIFT, np.concatenate(drawn))
    options = pycolmap.VisualIndex.BuildOptions()
    options.num_visual_words = min(WORDS, len(features.data) // 4)
    options.num_iterations, options.num_rounds, options.num_threads = ITERATIONS, 1, threads
    index = pycolmap.VisualIndex.create(features.data.shape[1], 64)
    index.build(options, features)
    index.write(str(path))


def _above(pairs: np.ndarray, overlap: np.ndarray, least: float) -> list[tuple[tuple[int, int], float]]:
    rows = np.flatnonzero(overlap > least)
    return [((int(i), int(j)), float(value)) for (i, j), value in zip(pairs[rows], overlap[rows], strict=True)]


def _link(source: Path, target: Path) -> None:
    if not source.is_file():
        raise S2LDError(f"{source}: no such photograph; the index belongs to other data")
    make_folder(target.parent)
    if not target.exists():
        target.symlink_to(source.resolve())
