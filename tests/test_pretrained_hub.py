"""Weights from a hub: what is asked of huggingface_hub, what its cache suffices for, what its errors become."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_networks import tiny_config, tiny_network

from s2ld import Matcher, S2LDError, pretrained
from s2ld.data.images.reading import write_image
from s2ld.models.checkpoint import save_weights
from s2ld.pretrained import HUB_FILE, from_hub

hub, errors = pytest.importorskip("huggingface_hub"), pytest.importorskip("huggingface_hub.errors")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "hf://some-one/s2ld.mine"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as huggingface_hub leaves it after a download of main, offline; returns the cached file."""
    weights = tmp_path / "w.safetensors"
    save_weights(weights, tiny_network(), tiny_config())
    data = weights.read_bytes()
    folder = tmp_path / "hub" / "models--some-one--s2ld.mine"
    for name in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / name).mkdir(parents=True)
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    (folder / "refs" / "main").write_text(COMMIT)
    file = folder / "snapshots" / COMMIT / HUB_FILE
    file.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return file


def test_a_commit_is_taken_from_the_cache_without_a_word(cache: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pretrained.resolve(f"{NAME}@{COMMIT}") == cache
        matcher = Matcher.from_pretrained(f"{NAME}@{COMMIT}", device="cpu")
    expected = tiny_network().s2ld_coarse.state_dict()
    found = matcher.model.s2ld_coarse.state_dict()
    assert all(value.equal(expected[key]) for key, value in found.items())


@pytest.mark.parametrize("address", [NAME, f"{NAME}@main"])
def test_what_may_change_is_told_with_its_commit(cache: Path, address: str) -> None:
    with pytest.warns(UserWarning, match=f"^{address}: today this is {NAME}@{COMMIT}, which will stay so$"):
        assert from_hub(address) == cache


@pytest.mark.parametrize("address", ["hf://some-one/other", f"{NAME}@v2", f"{NAME}@{'f' * 40}"])
def test_what_is_not_cached_is_one_line_offline(cache: Path, address: str) -> None:
    with pytest.raises(S2LDError) as caught:
        from_hub(address)
    remedy = "not in the cache, and the hub is out of reach; go online once, or give a file"
    assert str(caught.value) == f"{address}: {remedy}"


@pytest.mark.parametrize("address", ["hf://name", "hf://a/b/c", "hf://a/b@", "hf://a/b@v 1", "hf://", "hf://a/b?x"])
def test_another_form_is_told(address: str) -> None:
    with pytest.raises(S2LDError, match=r"an address of weights is hf://user/name@REVISION"):
        pretrained.resolve(address)


def test_one_file_of_one_revision_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(*arguments: Any, **options: Any) -> str:
        asked.append((arguments, options))
        return f"/cache/snapshots/{COMMIT}/{HUB_FILE}"

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.warns(UserWarning, match="today this is"):
        assert from_hub("hf://a/b@refs/pr/1") == Path(f"/cache/snapshots/{COMMIT}/{HUB_FILE}")
    assert asked == [(("a/b", "model.safetensors"), {"revision": "refs/pr/1"})]


def made(kind: str) -> Exception:
    """An error as the hub's client raises it, without the answer of a server that it is made from."""
    error: Exception = getattr(errors, kind).__new__(getattr(errors, kind))
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (made("RepositoryNotFoundError"), "no such repository, or a private one"),
        (made("GatedRepoError"), "asks for consent"),
        (made("RevisionNotFoundError"), "no such revision"),
        (made("EntryNotFoundError"), r"it has no model\.safetensors, the one file that is taken; s2ld export weights"),
        (made("LocalEntryNotFoundError"), "not in the cache"),
        (OSError(28, "No space left on device"), "cannot be downloaded .*No space left"),
        (RuntimeError("the server\nsays no"), "the server says no"),
    ],
)
def test_errors_of_the_hub_are_one_line(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(S2LDError, match=words) as caught:
        from_hub(NAME)
    assert str(caught.value).startswith(f"{NAME}: ")
    assert "\n" not in str(caught.value)


def test_the_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2ld.extras.is_there", lambda module: module != "huggingface_hub")
    with pytest.raises(S2LDError, match=r'^huggingface_hub is missing: pip install "s2ld\[hub\]"$'):
        from_hub(NAME)


def test_the_shipped_name_asks_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked"))
    assert pretrained.resolve("s2ld-lite").name == "s2ld-lite.safetensors"


def test_a_command_heeds_the_variables_of_the_hub(cache: Path, tmp_path: Path) -> None:
    images = []
    for name in "ab":
        images.append(str(tmp_path / f"{name}.png"))
        write_image(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8), images[-1])
    command = [sys.executable, "-m", "s2ld", "match", *images, "--weight", NAME, "--output", str(tmp_path / "out")]
    source = str(Path(pretrained.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"today this is {NAME}@{COMMIT}" in done.stderr
    assert (tmp_path / "out/a-b.npz").is_file()
