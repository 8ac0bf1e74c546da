from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_networks import LITE_PARTS, tiny_config, tiny_network

from s2ld.config import build_config, config_to_text
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import load_fitting, load_model, load_strict, read_weights, save_weights

LITE = Path(__file__).parents[2] / "configs/s2ld/outdoor/s2ld_lite.yaml"


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_round_trip_keeps_weights_config_and_metadata(tmp_path: Path) -> None:
    network, config = tiny_network(), tiny_config("TRAIN.SEED", "7")
    save_weights(tmp_path / "a.safetensors", network, config, {"steps": "12"})
    file = read_weights(tmp_path / "a.safetensors")
    assert file.config == config
    assert file.metadata["steps"] == "12"
    loaded, loaded_config = load_model(tmp_path / "a.safetensors")
    assert loaded_config == config
    assert not loaded.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    network, config = tiny_network(), tiny_config()
    save_weights(tmp_path / "full.safetensors", network, config)
    save_weights(tmp_path / "half.safetensors", network, config, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.75 * (tmp_path / "full.safetensors").stat().st_size
    loaded, _ = load_model(tmp_path / "half.safetensors")
    for key, value in network.state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_overrides_reach_the_network(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", tiny_network(), tiny_config())
    network, config = load_model(tmp_path / "a.safetensors", model_overrides=["MODEL.MATCH.THRESHOLD", "0.7"])
    assert network.sparse_matching.threshold == 0.7
    assert config.MODEL.MATCH.THRESHOLD == 0.7


def test_foreign_weights_are_named_in_one_line() -> None:
    network = tiny_network()
    state = network.state_dict()
    shape = tuple(state["backbone.coarse_out.weight"].shape)
    state["backbone.coarse_out.weight"] = torch.zeros(1)
    state["foreign.weight"] = torch.zeros(1)
    del state["s2ld_coarse.layers.0.norm1.bias"]
    with pytest.raises(S2LDError) as caught:
        load_strict(network, state, "other.pt")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("other.pt: ")
    assert "1 missing (s2ld_coarse.layers.0.norm1.bias)" in message
    assert "1 unexpected (foreign.weight)" in message
    assert f"1 of another shape (backbone.coarse_out.weight (1,) for {shape})" in message


def test_what_fits_is_taken_and_what_is_new_is_named() -> None:
    old, network = tiny_network(), tiny_network(*LITE_PARTS, "MODEL.ADJUSTER.HIDDEN_DIM", "24")
    state = {key: torch.full_like(value, 2) for key, value in old.state_dict().items()}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    anew = load_fitting(network, state, "old.pt")
    kept = []
    for key, value in network.state_dict().items():
        fits = key in state and state[key].shape == value.shape
        assert torch.equal(value, state[key] if fits else before[key])
        kept += [] if fits else [key.rpartition(".")[0]]
    assert anew == sorted(set(kept))
    assert {"local_dense.query.0", "keypoint_detector.maps.1"} <= set(anew)
    adjuster = [name for name in anew if name.startswith("feature_adjuster")]  # what has its old name and another shape
    assert len(adjuster) == 3
    assert not any(name.startswith(("backbone", "s2ld_coarse")) for name in anew)


def test_weights_that_fit_altogether_leave_nothing_new() -> None:
    network = tiny_network()
    assert load_fitting(network, {**network.state_dict(), "foreign.weight": torch.zeros(1)}, "old.pt") == []


@pytest.mark.parametrize("keys", [[], ["foreign.weight"], ["backbone.coarse_out.weight"]])
def test_weights_of_which_nothing_fits_are_one_line(keys: list[str]) -> None:
    state = {key: torch.zeros(1) for key in keys}
    with pytest.raises(S2LDError, match=r"^old\.pt: none of these weights fits .*TRAIN\.INIT_WEIGHTS") as caught:
        load_fitting(tiny_network(), state, "old.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["evil.pt", "evil.ckpt"])
def test_nothing_in_a_hostile_file_runs(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": {"matcher.a": Hostile(mark)}}, tmp_path / name)
    with pytest.raises(S2LDError, match=rf"{name}: not loaded, since it asks for (builtins\.)?getattr,"):
        read_weights(tmp_path / name)
    assert not mark.exists()
    (tmp_path / name).write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(S2LDError, match=name):
        read_weights(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors", "broken.ckpt"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 half a zip"])
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(S2LDError, match=name) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {1: torch.zeros(1)}, {"a": 1}, {"state_dict": {"a": torch.zeros(1)}, "s2ld_config": 5}]
)
def test_plain_values_that_are_no_state_dict_are_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(S2LDError, match=r"other\.pt: holds no state dict"):
        read_weights(tmp_path / "other.pt")


def test_weights_that_are_not_finite_are_refused() -> None:
    network = tiny_network()
    state = network.state_dict()
    state["backbone.coarse_out.weight"] = torch.full_like(state["backbone.coarse_out.weight"], float("nan"))
    for load in (load_strict, load_fitting):
        with pytest.raises(S2LDError, match=r"other\.pt: backbone\.coarse_out\.weight holds NaN"):
            load(network, state, "other.pt")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("HEADS: 5", "HEADS: 7", "attention heads"),
        ("HEADS: 5", "HEADS: five", "MODEL.COARSE.HEADS is 'five'"),
        ("HEADS: 5", "HEDS: 5", "unknown config key MODEL.COARSE.HEDS; did you mean"),
    ],
)
def test_a_config_inside_that_makes_no_network_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
) -> None:
    config = build_config([LITE])
    text = config_to_text(config).replace(old, new)
    assert new in text
    monkeypatch.setattr("s2ld.models.checkpoint.config_to_text", lambda _: text)
    save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, config)
    with pytest.raises(S2LDError, match=words) as caught:
        load_model(tmp_path / "w.safetensors")
    assert str(caught.value).startswith(str(tmp_path / "w.safetensors"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_file_without_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match=r"absent\.pt: no such weight file"):
        read_weights(tmp_path / "absent.pt")
    torch.save({"state_dict": {}}, tmp_path / "empty.ckpt")
    with pytest.raises(S2LDError, match=r"empty\.ckpt: holds no state dict"):
        read_weights(tmp_path / "empty.ckpt")


def exotic(tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The tensor as what no network here computes with; the first four fit a safetensors file."""
    rows = [torch.zeros(2, 3), torch.zeros(4, 3)]
    return [
        ("is of float8_e4m3fn", tensor.to(torch.float8_e4m3fn)),
        ("is of float8_e5m2", tensor.to(torch.float8_e5m2)),
        ("is of complex64", tensor.to(torch.complex64)),
        ("is of uint16", torch.zeros(4, dtype=torch.uint16)),
        ("has no values", tensor.to("meta")),
        ("is sparse or nested", tensor.to_sparse()),
        ("is sparse or nested", torch.eye(3).to_sparse_csr()),
        ("is sparse or nested", torch.nested.nested_tensor(rows)),
        ("is sparse or nested", torch.nested.nested_tensor(rows, layout=torch.jagged)),
        ("repeats its values", torch.zeros(1).expand(10**9)),
    ]


@pytest.mark.filterwarnings("ignore")  # torch's, of what it calls a prototype
def test_exotic_tensors_are_named_in_one_line(tmp_path: Path) -> None:
    state, path = tiny_network().state_dict(), tmp_path / "a.pt"
    key = next(key for key, value in state.items() if value.dim() > 1)
    for said, value in exotic(state[key]):
        torch.save({**state, key: value}, path)
        with pytest.raises(S2LDError, match=f"a.pt: {key} {said}; save plain dense tensors") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
        with pytest.raises(S2LDError, match=said):
            load_strict(tiny_network(), {**state, key: value}, "here")
    for _, value in exotic(state[key])[:4]:
        save_weights(tmp_path / "a.safetensors", {**state, key: value}, tiny_config())
        with pytest.raises(S2LDError, match=f"a.safetensors: {key} is of"):
            load_model(tmp_path / "a.safetensors")


def test_a_config_of_a_far_larger_network_is_refused_before_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, path = tiny_network().state_dict(), tmp_path / "a.safetensors"
    wide = tiny_config("MODEL.BACKBONE.DIMS", "[16, 4096, 8192]", "MODEL.ADJUSTER.HIDDEN_DIM", "8192")
    save_weights(path, state, wide)
    written: list[int] = []
    original = torch.nn.init.kaiming_uniform_
    monkeypatch.setattr(
        torch.nn.init, "kaiming_uniform_", lambda x, *a, **k: written.append(x.numel()) or original(x, *a, **k)
    )
    with pytest.raises(S2LDError, match=r"a\.safetensors: with its config, the network is far larger"):
        load_model(path)
    assert sum(written) < 20_000_000
    torch.nn.Linear(3, 4)  # nothing is counted any more


def test_a_file_of_torch_that_grows_when_read_is_refused(tmp_path: Path) -> None:
    state, path = tiny_network().state_dict(), tmp_path / "a.pt"
    torch.save({**state, "more": torch.zeros(10**7)}, path)
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for member in stored.infolist():
            packed.writestr(member.filename, stored.read(member))
    with pytest.raises(S2LDError, match=r"b\.pt: damaged"):
        read_weights(tmp_path / "b.pt")


def test_a_weight_beyond_float16_is_named_and_nothing_written(tmp_path: Path) -> None:
    state = {"layer.weight": torch.tensor([[1e6, 1.0]])}
    with pytest.raises(S2LDError, match=r"layer\.weight does not fit float16"):
        save_weights(tmp_path / "a.safetensors", state, tiny_config(), half=True)
    assert not list(tmp_path.iterdir())
