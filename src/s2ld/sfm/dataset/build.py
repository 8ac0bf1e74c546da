"""A folder of photographs to a data set in MegaDepth's form, scene by scene; what is done is kept between runs."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from s2ld.data.images.photo_folders import list_photos
from s2ld.errors import S2LDError
from s2ld.files import make_folder, whole_file
from s2ld.log import logger
from s2ld.sfm.dataset.scene import INDEX, SceneInput, SceneResult, Work, index_file, make_scene
from s2ld.sfm.mapping.model import RejectedError
from s2ld.sfm.mapping.pipeline import map_photos
from s2ld.sfm.mapping.read_model import ColmapModel, find_models, read_model
from s2ld.sfm.photos.copies import copy_photos
from s2ld.sfm.photos.places import same_places
from s2ld.sfm.photos.usable import find_photos

WORK = "work"
"""Folder below a data set of what it was made from: working copies, COLMAP's databases and models. It may be deleted
once all is done; a later run then begins anew."""
_STATE = "state.json"
_READ = "as the model saw them"  # how the images of a model are read: data sets of another way are made anew
LEAST_STRETCH, MOST_STRETCH = 0.5, 1.15
"""Of `corner_stretch`: fisheye lenses reach 0.6, and no lens is far above 1. A small model may end outside."""


@dataclass(frozen=True)
class PhotoSet:
    """The photographs of one scene, or of several that show themselves only as models that do not join."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Built:
    """All scenes."""

    scenes: list[SceneResult]
    places: list[list[str]]
    """Names of the scenes that show one place each."""
    rejected: list[tuple[str, str]]
    """Scene or photograph (with its scene's folder), and the reason."""


def find_sets(photos: Path, one_scene: bool, model: Path | None = None) -> list[PhotoSet]:
    """Return the scenes of a folder.

    A folder that holds images itself is one scene, with all folders below it; else each folder in it that has images,
    however deep, is one. `one_scene` makes it one in any case, and so does a model that is not a folder with a model
    for each: its images may lie in a folder for each camera.

    Raises:
        S2LDError: there is no such folder, or no image in it.
    """
    if not photos.is_dir():
        raise S2LDError(f"{photos}: no such folder; give one with photographs")
    listing = list_photos(photos)
    if not listing.photos:
        raise listing.nothing()
    together = one_scene or bool(list_photos(photos, deeper=False).photos)
    found = [photos] if together else _folders_with_pictures(photos)
    if len(found) > 1 and model is not None and _has_model(model):
        found = found if all(_has_model(model / path.name) for path in found) else [photos]
    names: list[str] = []
    for path in found:
        whole = path.resolve()
        clean = re.sub(r"[^\w.-]+", "_", whole.parent.name if whole.name == "images" else whole.name) or "scene"
        number = 2
        name = clean = f"{clean}_photos" if clean in (WORK, INDEX) else clean
        while name in names:
            name, number = f"{clean}_{number}", number + 1
        names.append(name)
    return [PhotoSet(name, path) for name, path in zip(names, found, strict=True)]


def build_scenes(sets: Sequence[PhotoSet], model: Path | None, work: Work) -> Built:
    """Make all scenes, and find out which of them show the same place.

    Args:
        sets: the photographs.
        model: None for SfM; else a COLMAP model, or with several sets a folder with one of the same name for each.
        work: how.

    Raises:
        S2LDError: pycolmap is not installed, or a file cannot be written.
    """
    scenes: list[SceneResult] = []
    rejected: list[tuple[str, str]] = []
    linked: list[tuple[str, str]] = []
    for photo_set in sets:
        path = None if model is None else model if len(sets) == 1 else model / photo_set.folder.name
        done = _Set(photo_set, path, work).run()
        scenes += done.scenes
        rejected += done.rejected
        rejected += [(f"{scene.name}/{name}", reason) for scene in done.scenes for name, reason in scene.rejected]
        pairs = combinations(done.scenes, 2)
        linked += [(a.name, b.name) for a, b in pairs if set(a.sources) & set(b.sources)]
    images = {s.name: sorted((work.out / s.name / "images").rglob("*.jpg")) for s in scenes}
    return Built(scenes, same_places(images, linked, work.jobs, work.progress), rejected)


@dataclass(frozen=True)
class _Done:
    """The outcome of one set."""

    scenes: list[SceneResult]
    rejected: list[tuple[str, str]]


class _Set:
    """One set of photographs on its way; its state tells from what, and into which scenes, it was made."""

    def __init__(self, photo_set: PhotoSet, model: Path | None, work: Work) -> None:
        self._set, self._model, self._work = photo_set, model, work
        self._folder = work.out / WORK / photo_set.name
        self._rejected: list[tuple[str, str]] = []

    def run(self) -> _Done:
        """Make its scenes, or take them from an earlier run with the same photographs, model and settings."""
        key, later = self._key(), self._later_key()
        state = self._read_state()
        if state is not None and state["key"] != key:
            self._forget(state)
            state = None
        if state is not None and state.get("later") == later:
            done = state["done"]
            return _Done([_scene_from(scene) for scene in done["scenes"]], [tuple(r) for r in done["rejected"]])
        make_folder(self._folder)
        if state is None:
            self._write_state({"key": key, "scenes": []})
        scenes, names = [], []
        try:
            inputs = self._inputs()
            names = [scene.name for scene in inputs]
            self._write_state({"key": key, "scenes": names})
            for scene in inputs:
                try:
                    scenes.append(make_scene(scene, self._work, self._folder))
                except RejectedError as error:
                    self._rejected.append((scene.name, str(error)))
        except RejectedError as error:
            self._rejected.append((self._set.name, str(error)))
        done = {"scenes": [asdict(scene) for scene in scenes], "rejected": self._rejected}
        self._write_state({"key": key, "scenes": names, "later": later, "done": done})
        return _Done(scenes, self._rejected)

    def _inputs(self) -> list[SceneInput]:
        return self._from_photos() if self._model is None else self._from_model(self._model)

    def _from_photos(self) -> list[SceneInput]:
        work, least = self._work, self._work.config.MIN_IMAGES
        try:
            found = find_photos(self._set.folder, work.progress)
        except S2LDError as error:
            raise RejectedError(str(error)) from error
        self._reject(found.rejected)
        if len(found.photos) < least:
            raise RejectedError(f"{self._set.folder}: {len(found.photos)} usable photograph(s); a scene needs {least}")
        images = self._folder / "photos"
        copies = copy_photos(found.photos, images, work.config.SFM.MAX_SIDE, work.jobs, work.progress)
        folders = map_photos(images, copies, self._folder, work.config, work.jobs, work.progress)
        titles = {copy.name: copy.source for copy in copies}
        return self._scenes(folders, images, titles, reason="not registered: too few matches with others")

    def _from_model(self, path: Path) -> list[SceneInput]:
        photos = list_photos(self._set.folder).photos
        names = [file.relative_to(self._set.folder).as_posix() for file in photos]
        try:
            folders = find_models(path)
        except S2LDError as error:
            raise RejectedError(str(error)) from error
        return self._scenes(folders, self._set.folder, dict(zip(names, names, strict=True)), reason="not in the model")

    def _scenes(self, folders: Sequence[Path], images: Path, titles: dict[str, str], reason: str) -> list[SceneInput]:
        """Return the models that are large enough, the largest first."""
        least, models, used = self._work.config.MIN_IMAGES, [], set()
        damaged = ""
        for folder in folders:
            try:
                model = read_model(folder)
            except S2LDError as error:
                damaged = str(error)
                self._rejected.append((f"{self._set.name}, model {folder.name}", damaged))
                continue
            names = {image.name for image in model.images}
            if len(names) < least:
                line = f"{len(names)} images, {least} are needed: {', '.join(sorted(names))}"
                self._rejected.append((f"{self._set.name}, model {folder.name}", line))
                continue
            stretch = corner_stretch(model) if self._model is None else 1.0
            if not LEAST_STRETCH <= stretch <= MOST_STRETCH:
                line = f"its camera would stretch the image's corners by {stretch:.2f}, as no lens does: too few points"
                self._rejected.append((f"{self._set.name}, model {folder.name}", line))
                continue
            used |= names
            models.append((model, folder))
        self._reject([(title, reason) for name, title in titles.items() if name not in used])
        if not models:
            raise RejectedError(
                damaged
                or f"{self._set.folder}: no model of at least {least} images; photographs must overlap, show texture "
                "and be taken from different places"
            )
        models.sort(key=lambda pair: (-len(pair[0].images), pair[1].name))
        single = len(models) == 1
        return [
            SceneInput(
                self._set.name if single else f"{self._set.name}_{number}",
                model,
                images,
                None if self._model is None else _dense_maps(folder, model),
                titles,
            )
            for number, (model, folder) in enumerate(models)
        ]

    def _reject(self, reasons: Sequence[tuple[str, str]]) -> None:
        self._rejected += [(f"{self._set.name}/{name}", reason) for name, reason in reasons]

    def _key(self) -> str:
        """Return what changes with the photographs, the model, or a setting that cameras depend on."""
        files = [(path, self._set.folder) for path in list_photos(self._set.folder).photos]
        if self._model is not None:
            model = self._model
            files += [(path, model) for path in sorted(model.rglob("*")) if path.suffix in (".bin", ".txt")]
        config = self._work.config
        settings = [config.SEED, config.MAX_SIDE, config.MIN_IMAGES, config.SFM.dump(), self._model is None or _READ]
        total = hashlib.sha256(repr(settings).encode())
        for path, base in files:
            status = path.stat()
            total.update(repr((path.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns)).encode())
        return total.hexdigest()

    def _later_key(self) -> str:
        """Return what changes with the settings of depth and pairs, which need no new cameras."""
        return str(self._work.config.DEPTH.dump() + self._work.config.PAIRS.dump())

    def _read_state(self) -> dict[str, Any] | None:
        try:
            state = json.loads((self._folder / _STATE).read_text())
        except (OSError, ValueError):
            return None
        return state if isinstance(state, dict) and "key" in state else None

    def _write_state(self, state: dict[str, Any]) -> None:
        with whole_file(self._folder / _STATE) as part:
            part.write_text(json.dumps(state))

    def _forget(self, state: dict[str, Any]) -> None:
        """Remove what was made from other photographs or with other settings."""
        logger.warning("{}: other photographs or settings than before; it is made anew", self._set.name)
        for name in state.get("scenes", []):
            index_file(self._work.out, name).unlink(missing_ok=True)
            shutil.rmtree(self._work.out / name, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def corner_stretch(model: ColmapModel) -> float:
    """Return by how much distortion stretches the distance of the image's corners from its middle.

    Args:
        model: of the mapping. Of its cameras the one that is farthest from 1 counts, `s2ld.sfm.mapping.cameras.MODEL`.
    """
    used = {image.camera for image in model.images}
    factors = [1.0]
    for number in used:
        focal, cx, cy, k = model.cameras[number].params
        factors.append(1 + k * (cx * cx + cy * cy) / (focal * focal))
    return max(factors, key=lambda factor: abs(factor - 1))


def _has_model(path: Path) -> bool:
    try:
        return bool(find_models(path))
    except S2LDError:
        return False


def _dense_maps(folder: Path, model: ColmapModel) -> Path | None:
    """Return COLMAP's dense maps beside a model, ``sparse`` and ``stereo`` of one workspace, whose images are flat."""
    if any(camera.model not in ("PINHOLE", "SIMPLE_PINHOLE") for camera in model.cameras.values()):
        return None
    places = (base / "stereo" / "depth_maps" for base in (folder, folder.parent, folder.parent.parent))
    return next((place for place in places if place.is_dir()), None)


def _scene_from(values: dict[str, Any]) -> SceneResult:
    rejected = [tuple(pair) for pair in values["rejected"]]
    return SceneResult(**{**values, "size": tuple(values["size"]), "rejected": rejected})


def _folders_with_pictures(photos: Path) -> list[Path]:
    """Return the folders in a folder that have pictures, read or not, by name; each once, whatever links to it."""
    found: dict[Path, Path] = {}
    here = photos.resolve()
    for path in sorted((path for path in photos.iterdir() if path.is_dir()), key=Path.is_symlink):
        target = path.resolve()
        if target in found or here.is_relative_to(target):
            continue
        listing = list_photos(path)
        if listing.photos or listing.others:
            found[target] = path
    return sorted(found.values())
