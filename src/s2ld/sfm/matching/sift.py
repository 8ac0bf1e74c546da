"""pycolmap's SIFT on the same photographs and pairs, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s2ld.files import whole_file
from s2ld.sfm.mapping.cameras import CameraGroup
from s2ld.sfm.mapping.colmap import load_pycolmap
from s2ld.sfm.matching.colmap_database import (
    database_errors,
    refuse_full_disk,
    remove_database,
    sift_bytes,
    verification_options,
    write_database,
)
from s2ld.sfm.matching.pairs import Pair


def match_by_sift(
    path: Path,
    images: Path,
    names: Sequence[str],
    cameras: Sequence[CameraGroup],
    pairs: Sequence[Pair],
    seed: int = 0,
    threads: int = -1,
) -> None:
    """Write a COLMAP database with SIFT keypoints and verified matches: COLMAP's defaults, on the CPU.

    Args:
        path: of the database.
        images: folder to which the names belong, stored upright.
        names: of the images.
        cameras: groups of them.
        pairs: to match.
        seed: of RANSAC.
        threads: at most; -1: one a core.

    Raises:
        S2LDError: no pycolmap, or the database cannot be written.
    """
    pycolmap = load_pycolmap()
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    extraction.use_gpu = matching.use_gpu = False
    extraction.num_threads = matching.num_threads = threads
    pycolmap.set_random_seed(seed)
    refuse_full_disk(path, sift_bytes(len(names), len(pairs)))
    with whole_file(path) as part, database_errors(path, part):
        remove_database(part)
        write_database(part, names, cameras)
        pycolmap.extract_features(part, images, list(names), extraction_options=extraction)
        listed = part.with_name(part.name + ".pairs")
        try:
            listed.write_text("".join(f"{names[i]} {names[j]}\n" for i, j in pairs))
            pairing = pycolmap.ImportedPairingOptions()
            pairing.match_list_path = str(listed)
            pycolmap.match_image_pairs(part, matching, pairing, verification_options(seed))
        finally:
            listed.unlink(missing_ok=True)
