"""What `s2ld reconstruct` has left in its output folder, as localisation needs it: models and frozen keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.sfm.mapping.colmap import load_pycolmap
from s2ld.sfm.mapping.read_model import find_models, read_model
from s2ld.sfm.matching.keypoints import ImageKeypoints
from s2ld.sfm.matching.match_folder import read_settings
from s2ld.sfm.matching.storage.matches import JOURNAL, MatchJournal
from s2ld.sfm.matching.storage.tables import TABLES, Table, TableStore
from s2ld.sfm.photos.usable import Photo, PhotoFolder, read_photo

REMEDY = "run `s2ld reconstruct` on them again, with --refit"


@dataclass(frozen=True)
class Reference:
    """A photograph that a model has posed."""

    name: str
    path: Path
    model: int
    """Number of the model."""
    camera: int
    """COLMAP's number of its camera."""
    points: NDArray[np.int64]
    """(N,) number of the 3D point of each of its keypoints, -1 for none."""


class MappedFolder:
    """The models of a folder, the photographs in them, and their tables of keypoints.

    Args:
        output: folder of `s2ld reconstruct`.
        photos: the photographs, where they have moved; None: where they were.

    Raises:
        S2LDError: no model, no pycolmap, a photograph is missing or is another one now, or keypoints have no identity.
    """

    def __init__(self, output: Path, photos: Path | None = None) -> None:
        pycolmap = load_pycolmap()
        was, self.settings, identity = read_settings(output)
        if identity.mode != "identity":
            raise S2LDError(f"{output}: its keypoints have no identity; {REMEDY} and without --grid or --no-identity")
        folders = find_models(output)
        for folder in folders:
            read_model(folder)  # pycolmap reads on beyond the end of a damaged one
        self.models: Sequence[Any] = [pycolmap.Reconstruction(folder) for folder in folders]
        """`pycolmap.Reconstruction`s, the largest first."""
        self.references = _references(self.models, photos or was)
        listed = [Photo(ref.name, ref.path, (0, 0), None, "", plain=True) for ref in self.references]
        journal = MatchJournal(output / JOURNAL, self.settings.title(), PhotoFolder(photos or was, listed, []))
        self._images = journal.images
        self._store = TableStore(output / TABLES, journal.digests, asdict(identity) | self.settings.title())
        for number, reference in enumerate(self.references):
            if number not in journal.images or len(self.table(number).points) != len(reference.points):
                raise S2LDError(f"{reference.path}: not the photograph that was mapped; {REMEDY}")
        self._cameras = [_by_photograph(number, model, self.references) for number, model in enumerate(self.models)]

    def keypoints(self, reference: int) -> ImageKeypoints:
        """Return the detections of a photograph."""
        return self._images[reference]

    def table(self, reference: int) -> Table:
        """Return the keypoints of a photograph."""
        return self._store.table(reference)

    def camera(self, photo: Photo, model: int) -> Any | None:
        """Return the model's `pycolmap.Camera` of photographs of this size and EXIF entry, None where there is none."""
        return self._cameras[model].get((photo.size, photo.camera))


def _references(models: Sequence[Any], photos: Path) -> list[Reference]:
    found: dict[str, Reference] = {}
    for number, model in enumerate(models):
        for index in sorted(model.reg_image_ids()):
            image = model.images[index]
            points = [p.point3D_id if p.has_point3D() else -1 for p in image.points2D]
            reference = Reference(image.name, photos / image.name, number, image.camera_id, np.array(points, np.int64))
            found.setdefault(image.name, reference)  # a photograph may be in two models: the larger one counts
    missing = [reference.path for reference in found.values() if not reference.path.is_file()]
    if missing:
        raise S2LDError(f"{missing[0]}: this photograph of the model is missing; say where they are by --photos")
    return [found[name] for name in sorted(found)]


def _by_photograph(number: int, model: Any, references: Sequence[Reference]) -> Mapping[tuple[Any, str], Any]:
    """Return cameras by the size and the EXIF entry of their photographs; what several cameras share is left out."""
    cameras: dict[tuple[Any, str], set[int]] = {}
    first: dict[int, Reference] = {}
    for reference in references:
        if reference.model == number:
            first.setdefault(reference.camera, reference)
    for camera, reference in first.items():
        photo = read_photo(reference.path, reference.path.parent)
        if isinstance(photo, Photo):
            cameras.setdefault((photo.size, photo.camera), set()).add(camera)
    return {key: model.cameras[min(numbers)] for key, numbers in cameras.items() if len(numbers) == 1}
