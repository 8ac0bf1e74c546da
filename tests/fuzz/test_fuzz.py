"""Damaged and odd indices, records, configs, weights and lists are answered or one line.

A few inputs of each kind by default; ``S2LD_FUZZ_SECONDS=600 python -m pytest tests/fuzz`` tries others, each kind
for so long.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import fuzz
from tiny_networks import TINY, tiny_config, tiny_network

from s2ld.config import build_config, config_to_text
from s2ld.data.index.files import read_index
from s2ld.data.sources.posed_pairs import PosedPairs
from s2ld.evaluation.predictions.record_files import NpzFolder
from s2ld.models.checkpoint import load_model, save_weights


def index(write: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    images = {"image_paths": np.array(["a.jpg", "b.jpg", "c.jpg"]), "depth_paths": np.array(["a.h5", "b.h5", ""])}
    cameras = {"intrinsics": np.tile(np.diag([30.0, 30, 1]), (3, 1, 1)), "poses": np.tile(np.eye(4), (3, 1, 1))}
    write(stream, **images, **cameras, pairs=np.array([[0, 1], [1, 2]]), overlap=np.array([0.5, 0.4], np.float32))
    return stream.getvalue()


def pickled(protocol: int) -> bytes:
    with np.load(io.BytesIO(index(np.savez))) as arrays:
        content = {key: arrays[key].astype(object) if "paths" in key else list(arrays[key]) for key in arrays}
    pairs = zip(content.pop("pairs"), content.pop("overlap"), strict=True)
    content["pair_infos"] = [(pair, overlap, np.zeros(4)) for pair, overlap in pairs]
    return pickle.dumps(content, protocol)


def record(write: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    write(stream, points0=np.ones((20, 2)), points1=np.ones((20, 2), np.float32), confidence=np.ones(20))
    return stream.getvalue()


def pairs_json() -> bytes:
    K, T = [[30.0, 0, 16], [0, 30, 12], [0, 0, 1]], np.eye(4).tolist()
    return json.dumps([{"image0": "a.jpg", "image1": "b.jpg", "K0": K, "K1": K, "T_0to1": T}] * 3).encode()


def weights(suffix: str, folder: Path) -> bytes:
    config, network = tiny_config(), tiny_network()
    if suffix == ".safetensors":
        save_weights(folder / "own.safetensors", network, config)
        return (folder / "own.safetensors").read_bytes()
    stream = io.BytesIO()
    torch.save({"state_dict": network.state_dict(), "s2ld_config": config_to_text(config)}, stream)
    return stream.getvalue()


def read_record(path: Path) -> object:
    return NpzFolder(path.parent).read(path.name, "a.jpg", "b.jpg")


def read_list(path: Path) -> object:
    keys = ["DATA.POSED_PAIRS.ROOT", str(path.parent), "DATA.POSED_PAIRS.LIST", path.name]
    return PosedPairs(build_config([], keys).DATA)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_indices_of_arrays(tmp_path: Path, write: Callable[..., None]) -> None:
    fuzz(index(write), tmp_path / "scene.npz", read_index)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickled_indices(tmp_path: Path, protocol: int) -> None:
    fuzz(pickled(protocol), tmp_path / "scene.npz", read_index)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_records(tmp_path: Path, write: Callable[..., None]) -> None:
    (tmp_path / "a_b.npz").write_bytes(record(write))
    fuzz(record(write), tmp_path / "a_b.npz", read_record)


def test_configs(tmp_path: Path) -> None:
    fuzz(TINY.encode(), tmp_path / "own.yaml", lambda path: build_config([path]))


def test_values_of_configs(tmp_path: Path) -> None:
    text = "DATA: {SYNTHETIC: {FOV: [40.0, 75.0]}, IMAGE_SIZE: [64, 48], PHOTOS: a/b, BATCH_SIZE: 4}\nEVAL: {SEED: 3}\n"
    fuzz(text.encode(), tmp_path / "own.yaml", lambda path: build_config([path]))


def test_lists_of_posed_pairs(tmp_path: Path) -> None:
    fuzz(pairs_json(), tmp_path / "pairs.json", read_list)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights(tmp_path: Path, suffix: str) -> None:
    fuzz(weights(suffix, tmp_path), tmp_path / f"weights{suffix}", load_model, rounds=20)


def test_what_is_not_changed_is_read(tmp_path: Path) -> None:
    """Else the tests above would pass on files that none of them could read."""
    written = {"scene.npz": index(np.savez), "old.npz": pickled(4), "a_b.npz": record(np.savez)}
    written |= {"pairs.json": pairs_json(), "weights.pt": weights(".pt", tmp_path)}
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
    assert len(read_index(tmp_path / "scene.npz")) == len(read_index(tmp_path / "old.npz")) == 2
    assert read_record(tmp_path / "a_b.npz") is not None
    assert read_list(tmp_path / "pairs.json") is not None
    assert load_model(tmp_path / "weights.pt")[1].MODEL.BACKBONE.STEM_DIM == 8
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert build_config([tmp_path / "tiny.yaml"]) == tiny_config()
