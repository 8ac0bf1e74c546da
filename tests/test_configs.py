"""Every shipped config parses and builds its network; every key of the default tree is read somewhere."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from yacs.config import CfgNode as CN

from s2ld.config import build_config, config_from_text, config_keys, config_to_text, defaults
from s2ld.data.datamodule import PairDataModule
from s2ld.data.sources.by_name import Split, build_source, validation_set, validation_weights
from s2ld.data.sources.megadepth import MegaDepthPairs, megadepth_files
from s2ld.errors import S2LDError
from s2ld.models.network import S2LD
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.optim import run_scale, schedule_factor

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SOURCES = [path for path in sorted((ROOT / "src").rglob("*.py")) if path.name != "defaults.py"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_every_shipped_config_parses_and_builds(path: Path) -> None:
    config = build_config([path])
    if "data" not in path.relative_to(ROOT / "configs").parts:
        assert sum(p.numel() for p in S2LD(config.MODEL).parameters()) > 0
    assert schedule_factor(config.TRAIN, run_scale(config, 8, 36_800))(0) > 0
    assert len(config.DATA.TRAIN_SOURCES) == len(config.DATA.TRAIN_WEIGHTS)
    assert config_from_text(config_to_text(config), "text") == config


def test_the_two_supervisions_and_the_detector_are_what_their_names_say() -> None:
    folder = ROOT / "configs"
    dense, sparse = (build_config([folder / f"s2ld/outdoor/s2ld_kp_ds_{name}.yaml"]) for name in ("dense", "sparse"))
    assert (dense.LOSS.COARSE_NEGATIVES, dense.LOSS.REGULARISER_WEIGHT) == (True, 1.0)
    assert (sparse.LOSS.COARSE_NEGATIVES, sparse.LOSS.REGULARISER_WEIGHT) == (False, 0.2)
    assert dense.MODEL == sparse.MODEL == defaults().MODEL
    lite = folder / "s2ld/outdoor/s2ld_lite.yaml"
    module = S2LDModule(build_config([lite, folder / "kpnet/outdoor/kpnet.yaml"]))
    learning = {name.split(".")[0] for name, p in module.matcher.named_parameters() if p.requires_grad}
    assert learning == {"backbone", "keypoint_detector"}


def test_the_mixture_keeps_training_and_validation_scenes_apart() -> None:
    node = build_config([ROOT / "configs/data/mixture.yaml"]).DATA
    train, val = ((ROOT / path).read_text().split() for path in (node.MEGADEPTH.SCENES, node.MEGADEPTH.VAL_SCENES))
    assert (len(train), val) == (6, ["ngp_fox", "vork_alexander"])
    assert not set(train) & set(val)
    assert "posed_pairs" in node.VAL_SOURCES
    assert "posed_pairs" not in node.TRAIN_SOURCES


def test_the_wide_mixture_trains_on_what_the_mixture_does_and_more() -> None:
    plain, wide = (build_config([ROOT / f"configs/data/{name}.yaml"]).DATA for name in ("mixture", "mixture_wide"))
    assert wide.PHOTOS_EXCLUDE == plain.PHOTOS_EXCLUDE
    assert wide.MEGADEPTH.SCENES[0] == plain.MEGADEPTH.SCENES
    assert wide.MEGADEPTH.VAL_SCENES[0] == plain.MEGADEPTH.VAL_SCENES
    assert wide.MEGADEPTH.ROOT == ["", "data/photo_scenes"]
    wide = build_config([ROOT / "configs/data/mixture_wide.yaml"], ["DATA.MEGADEPTH.ROOT", "['my', 'more']"]).DATA
    assert [len(megadepth_files(wide, split)) for split in ("train", "val", "test")] == [2, 2, 1]
    assert [str(files.index) for files in megadepth_files(wide, "val")] == ["my/index", "more/index"]
    assert "roadscene_vis_thermal" in wide.LIGHT.TRAIN_EXCLUDE
    assert "posed_pairs" not in wide.TRAIN_SOURCES
    assert wide.HOMOGRAPHY.CURRICULUM > 0


@pytest.mark.skipif(not (SHARED / "real_scenes").is_dir(), reason="needs ../shared")
def test_the_mixture_runs_from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    places = ["DATA.PHOTOS", SHARED / "photos", "DATA.POSED_PAIRS.ROOT", SHARED / "posed_pairs/facades"]
    places += ["DATA.MEGADEPTH.ROOT", SHARED / "real_scenes"]
    config = build_config([ROOT / "configs/data/mixture.yaml"], [str(word) for word in places])
    data = PairDataModule(config)
    data.setup("fit")
    assert data.val_layout == [(name, 24) for name in config.DATA.VAL_SOURCES]
    source = build_source("megadepth", config, "train")
    assert isinstance(source, MegaDepthPairs)
    names = Path(config.DATA.MEGADEPTH.SCENES).read_text().split()
    assert len({source.locate(index)[0] for index in range(100 * len(names))}) == len(names)
    assert source[0].source.removeprefix("megadepth/") in names
    sample = build_source("megadepth", config, "val")[0]
    assert sample.source.removeprefix("megadepth/") in Path(config.DATA.MEGADEPTH.VAL_SCENES).read_text().split()


def test_the_validation_sets_are_of_nothing_that_trains() -> None:
    folder = ROOT / "configs/data"
    config = build_config([folder / "mixture.yaml", folder / "validation.yaml"])
    sets = [build_config([ROOT / file]).DATA for file in config.DATA.VAL_SETS]
    assert [node.TEST_SOURCE for node in sets] == ["posed_pairs", "megadepth", "megadepth", "light", "homography"]
    assert all(node.TEST_LONG_SIDE == max(node.IMAGE_SIZE) == 640 for node in sets)
    assert all(validation_set(str(ROOT / file), config).DATA.TEST_PAIRS == 32 for file in config.DATA.VAL_SETS)
    assert validation_weights(config.DATA, len(sets)) == [1] * 5
    lists = [(ROOT / node.MEGADEPTH.TEST_SCENES).read_text().split() for node in sets[1:3]]
    train = (folder / "photo_scenes_train.txt").read_text().split() + Path(
        ROOT / config.DATA.MEGADEPTH.SCENES
    ).read_text().split()
    assert lists[1] == ["park_gate", "bust_carlygp", "stitch_toy", "aerial_ochota"]
    assert not {scene for names in lists for scene in names} & set(train)
    assert len(train) == len(set(train))


ASKING = {  # what of the shipped configs asks for which folder
    "posed_pairs": [("posed_pairs", "test", "POSED_PAIRS.ROOT")],
    "homography_synthetic": [("homography", "train", "PHOTOS"), ("synthetic", "train", "PHOTOS")],
    "unseen_planes": [("homography", "test", "PHOTOS")],
    "unseen_light": [("light", "test", "LIGHT.ROOT")],
    "unseen_scenes": [("megadepth", "test", "MEGADEPTH.TEST_ROOT")],
    "mixture": [
        ("homography", "train", "PHOTOS"),
        ("synthetic", "val", "PHOTOS"),
        ("posed_pairs", "val", "POSED_PAIRS.ROOT"),
        *(("megadepth", split, "MEGADEPTH.ROOT") for split in ("train", "val")),
    ],
    "mixture_wide": [
        ("homography", "train", "PHOTOS"),
        ("light", "train", "LIGHT.ROOT"),
        ("posed_pairs", "val", "POSED_PAIRS.ROOT"),
        *(("megadepth", split, "MEGADEPTH.ROOT") for split in ("train", "val")),
    ],
}


@pytest.mark.parametrize("name", ASKING)
def test_a_data_config_asks_for_the_folders_that_it_cannot_know(name: str) -> None:
    config = build_config([ROOT / f"configs/data/{name}.yaml"])
    for source, split, key in ASKING[name]:
        with pytest.raises(S2LDError, match=rf"^DATA\.{re.escape(key)} is not given: add .+ \(docs/data\.md\)$"):
            build_source(source, config, cast(Split, split))
    for key in {key for _, _, key in ASKING[name]}:
        text = "['/nowhere', '/nowhere']" if (name, key) == ("mixture_wide", "MEGADEPTH.ROOT") else "/nowhere"
        whole = build_config(overrides=[f"DATA.{key}", text], base=config)
        source, split = next((source, split) for source, split, asked in ASKING[name] if asked == key)
        with pytest.raises(S2LDError, match=r"^/nowhere"):
            build_source(source, whole, cast(Split, split))


def test_nothing_that_ships_points_out_of_the_repository() -> None:
    files = [*CONFIGS, *SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "scripts").rglob("*.*")]
    files += [ROOT / "src/s2ld/config/defaults.py", *(ROOT / "data").glob("*.md"), *(ROOT / "weights").glob("*.md")]
    assert [str(path) for path in files if path.is_file() and "../shared" in path.read_text()] == []


def test_every_key_is_read() -> None:
    assert unread(defaults(), SOURCES) == []


def test_keys_that_nothing_reads_are_found(tmp_path: Path) -> None:
    tree = CN({"A": CN({"ONE": 1, "TWO": 2, "SAME": 3}), "B": CN({"SAME": 4, "OTHER": 5}), "C": CN({"SAME": 6})})
    code = tmp_path / "code.py"
    code.write_text(
        "def f(config):\n    a, b = config.A, config.B\n    print(a.ONE, b.SAME)\n    config.A.TWO = 1\n"
        "def g(node):\n    return node.SAME\n"  # one of the two other nodes, not both
    )
    assert unread(tree, [code]) == ["A.SAME or C.SAME", "A.TWO", "B.OTHER"]


def unread(tree: CN, sources: list[Path]) -> list[str]:
    """Return the keys that no source reads.

    A read is an attribute chain in capitals, with what its root was assigned from in the same function. A chain that
    names the node ("COARSE.LAYERS") reads that key; a leaf alone ("node.LAYERS") reads one key of that name for each
    function in which it stands.
    """
    chains: dict[tuple[str, ...], int] = defaultdict(int)
    for path in sources:
        for scope in scopes(ast.parse(path.read_text())):
            for chain in set(capital_chains(scope)):
                chains[chain] += 1
    missing = []
    by_leaf: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for key in config_keys(tree):
        parts = tuple(key.split("."))
        if not any(parts[-length:] in chains for length in range(2, len(parts) + 1)):
            by_leaf[parts[-1]].append(parts)
    for leaf, keys in by_leaf.items():
        if chains[(leaf,)] < len(keys):
            missing.append(" or ".join(".".join(parts) for parts in keys))
    return sorted(missing)


def scopes(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the functions, outermost ones only."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from (member for member in members if isinstance(member, functions))


def capital_chains(scope: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the chains of attributes in capitals that are read in a function, aliases resolved."""
    aliases: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                aliases |= dict(assigned(target, node.value))
    for node in ast.walk(scope):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            chain = capitals(node, aliases)
            if chain:
                yield chain


def assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, tuple[str, ...]]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for pair in zip(target.elts, value.elts, strict=False):
            yield from assigned(*pair)
    elif isinstance(target, ast.Name) and capitals(value, {}):
        yield target.id, capitals(value, {})


def capitals(node: ast.expr, aliases: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the attributes in capitals at the end of a chain, () if its last one is none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and node.attr.isupper():
        parts.insert(0, node.attr)
        node = node.value
    if parts and isinstance(node, ast.Name):
        return (*aliases.get(node.id, ()), *parts)
    return tuple(parts)
