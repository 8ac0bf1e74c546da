"""Names and paths of weight files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from s2ld import Matcher, S2LDError, pretrained
from s2ld.config import build_config
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD

LITE = Path(__file__).parents[1] / "configs/s2ld/outdoor/s2ld_lite.yaml"


def test_a_file_is_taken_by_its_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = build_config([LITE])
    model = S2LD(config.MODEL)
    path = tmp_path / "mine.safetensors"
    save_weights(path, model.state_dict(), config)
    assert pretrained.resolve(path) == pretrained.resolve(str(path)) == path
    matcher = Matcher.from_pretrained(path, threshold=0.125, max_side=64, device="cpu")
    assert matcher.model.threshold == 0.125
    assert matcher.max_side == 64
    assert all(
        torch.equal(value, model.s2ld_coarse.state_dict()[key])
        for key, value in matcher.model.s2ld_coarse.state_dict().items()
    )
    assert not matcher.model.training


@pytest.mark.skipif("s2ld-e2e" in pretrained.available(), reason="they ship")
def test_a_missing_file_is_named_with_where_to_get_it() -> None:
    with pytest.raises(S2LDError) as caught:
        Matcher.from_pretrained("./weights/s2ld-e2e-inference.pt")
    message = str(caught.value)
    assert message.startswith("./weights/s2ld-e2e-inference.pt: no such weight file")
    assert "drive.google.com" in message
    assert "s2ld-lite" in message
    assert "\n" not in message


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(S2LDError, match=r"unknown weights 's2ld-light': did you mean s2ld-lite\?"):
        pretrained.resolve("s2ld-light")


def test_a_folder_is_no_weight_file(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match="this is a folder"):
        pretrained.resolve(tmp_path)


def test_a_name_without_its_file_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pretrained.SHIPPED, "s2ld-none", "s2ld-none.safetensors")
    with pytest.raises(S2LDError, match="weights s2ld-none are missing from this installation"):
        pretrained.resolve("s2ld-none")


def test_an_installed_wheel_has_the_weights_beside_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "weights" / pretrained.SHIPPED[pretrained.DEFAULT]
    file.parent.mkdir()
    file.write_bytes(b"")
    monkeypatch.setattr(pretrained, "files", lambda package: tmp_path)
    assert pretrained.resolve("s2ld-lite") == file


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installation without any weights, in this folder."""
    monkeypatch.setattr(pretrained, "files", lambda package: tmp_path / "package")
    monkeypatch.setattr(pretrained, "__file__", str(tmp_path / "checkout/src/s2ld/pretrained.py"))
    return tmp_path


def test_weights_of_the_paper_configuration_that_do_not_ship_are_not_promised(empty: Path) -> None:
    assert pretrained.available() == []
    with pytest.raises(S2LDError, match=r"s2ld-e2e are missing .* train them by scripts/train/train_paper\.sh$"):
        pretrained.resolve("s2ld-e2e")


@pytest.mark.parametrize("folder", ["package/weights", "checkout/weights", "mine"])
def test_our_weights_take_the_place_of_the_authors_missing_file(empty: Path, folder: str) -> None:
    ours, asked = empty / folder / "s2ld-e2e-inference.safetensors", empty / "mine" / "s2ld-e2e-inference.pt"
    ours.parent.mkdir(parents=True)
    ours.write_bytes(b"")
    line = f"{asked}: the authors' file is not here; {ours} was trained by this project"
    with pytest.warns(UserWarning, match=re.escape(line)):
        assert pretrained.resolve(asked) == ours
    if folder != "mine":
        assert pretrained.resolve("s2ld-e2e") == ours
        assert pretrained.available() == ["s2ld-e2e"]
    with pytest.raises(S2LDError, match="no such weight file"):
        pretrained.resolve(asked.with_name("other.pt"))
    asked.parent.mkdir(exist_ok=True)
    asked.write_bytes(b"")
    assert pretrained.resolve(asked) == asked
