"""Damaged and odd HDF5 files of matches and predictions are answered or one line."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzzing import fuzz

from s2ld.evaluation.predictions.cache import CacheHeader, PairPrediction, read_cache, read_header, write_cache
from s2ld.evaluation.predictions.record_files import HlocFiles, PairGroups

POINTS = np.random.default_rng(0).random((20, 2)).astype(np.float32)
KEYPOINTS = {"a.jpg/keypoints": POINTS, "b.jpg/keypoints": POINTS}
MATCHES = {"a.jpg/b.jpg/matches0": np.arange(20), "a.jpg/b.jpg/matching_scores0": np.ones(20, np.float16)}
RECORD = {f"a.jpg/b.jpg/{key}": POINTS for key in ("points0", "points1")}


def hdf5(arrays: dict[str, np.ndarray], **options: str) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)
    return stream.getvalue()


def read(records: PairGroups | HlocFiles) -> object:
    place = records.find("a.jpg", "b.jpg")
    return None if place is None else records.read(place, "a.jpg", "b.jpg")


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
def test_records(tmp_path: Path, options: dict[str, str]) -> None:
    fuzz(hdf5(RECORD, **options), tmp_path / "a.h5", lambda path: read(PairGroups(path)))


def test_features_and_matches_of_hloc(tmp_path: Path) -> None:
    features, matches = tmp_path / "features.h5", tmp_path / "matches.h5"
    matches.write_bytes(hdf5(MATCHES))
    fuzz(hdf5(KEYPOINTS, compression="gzip"), features, lambda path: read(HlocFiles(path, matches)))
    features.write_bytes(hdf5(KEYPOINTS))
    assert read(HlocFiles(features, matches)) is not None
    fuzz(hdf5(MATCHES), matches, lambda path: read(HlocFiles(features, path)))


def test_predictions(tmp_path: Path) -> None:
    path, one, K = tmp_path / "predictions.h5", POINTS[:, 0], np.eye(3, dtype=np.float32)
    scale, T = np.ones(2, np.float32), np.eye(4, dtype=np.float32)
    sizes = ((8, 8), (8, 8))
    pair = PairPrediction(("a.jpg", "b.jpg"), sizes, POINTS, POINTS, one, one, K, K, scale, scale, T)
    write_cache(path, CacheHeader("weights", "digest", "source", 1, "A: 1", "B: 2", 0.05), [pair])
    assert len(list(read_cache(path))) == 1
    fuzz(path.read_bytes(), path, lambda path: (read_header(path), list(read_cache(path))))
