"""Photographs that are not in a model, posed in it: by retrieval, matching, and the model's points in their matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2ld.errors import S2LDError
from s2ld.files import make_folder
from s2ld.sfm.localize.absolute_pose import AGREEING_PX, Focal, Pose, Sightings, estimate_pose
from s2ld.sfm.localize.mapped_folder import MappedFolder
from s2ld.sfm.mapping.cameras import CameraGroup, colmap_camera
from s2ld.sfm.mapping.colmap import load_pycolmap
from s2ld.sfm.matching.clustering import nearest_within
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.sfm.matching.retrieval import JOINED, Describer, falling_weights, joined, search, unit
from s2ld.sfm.matching.storage.features import FeatureCache, memory_for_features
from s2ld.sfm.photos.usable import Photo, read_photo
from s2ld.types import FloatArray

RADIUS = 0.5
"""px as the network sees them: a place this near to a keypoint is that keypoint."""
MAX_ERROR = 4.0
"""px as the network sees them: a sighting this near to its point's projection is an inlier."""
LEAST_INLIERS = 30
"""Points with which a photograph belongs to a model; held-out ones had 122 or more, other places at most 15."""


@dataclass(frozen=True)
class Localised:
    """What was found of a photograph."""

    photo: Photo
    references: Sequence[str]
    """Names of the photographs that it was matched with, those most like it first."""
    model: int
    """Number of the model to which most sightings belong."""
    sightings: Sightings
    """Of that model's points, each once."""
    pose: Pose | None
    """None where the photograph does not belong to the model."""
    inliers: int
    """Points that agree with one pose, whether they are enough or not."""

    @property
    def line(self) -> str:
        """One line for the user."""
        seen = f"{self.inliers:,} of {len(self.sightings.points):,} points agree"
        if self.pose is None:
            return f"{self.photo.name}: does not belong to this place: {seen}; {LEAST_INLIERS} are needed"
        x, y, z = self.pose.matrix[:3, :3].T @ -self.pose.matrix[:3, 3]
        return f"{self.photo.name}: model {self.model}, at ({x:.3f}, {y:.3f}, {z:.3f}), {seen}"


class Localizer:
    """Poses photographs in the models of a folder.

    Args:
        place: the folder.
        scratch: folder for features of its photographs that memory does not hold.
        partners: photographs with which each one is matched.
        seed: of retrieval and of RANSAC.

    Raises:
        S2LDError: weights or device are not there, or as `MappedFolder`.
    """

    def __init__(self, place: MappedFolder, scratch: Path, partners: int = 20, seed: int = 0) -> None:
        if partners < 1:
            raise S2LDError(f"a photograph needs at least one partner, not {partners}")
        self._place, self._partners, self._seed = place, partners, seed
        self._matcher = place.settings.build()
        make_folder(scratch)
        title = place.settings.title()
        self._features = FeatureCache(scratch, title, self._matcher.extract, memory_for_features(1))
        numbers = range(len(place.references))
        descriptors = [place.keypoints(number).descriptors for number in numbers]
        self._describe = Describer.of(descriptors, seed)
        self._described = np.stack([self._describe(found) for found in descriptors])
        self._joined = (
            joined(self._described, search(self._described, JOINED)) if len(descriptors) > 1 else self._described
        )

    def __call__(self, query: Path, K: FloatArray | None = None) -> Localised:
        """Pose one photograph.

        Args:
            query: its file.
            K: (3, 3) intrinsics, px of the upright photograph, pixel centres at integers; None: those of the model's
                photographs of this size and EXIF entry, else EXIF's focal length, else it is estimated.

        Raises:
            S2LDError: the file is no photograph that can be used, or a pair does not fit into memory.
        """
        photo = read_photo(query, query.parent)
        if isinstance(photo, str):
            raise S2LDError(f"{query}: {photo}")
        extracted = self._matcher.extract(query)
        keypoints = self._matcher.keypoints(extracted)
        references = self._most_alike(keypoints)
        sightings: dict[int, list[Sightings]] = {}
        for number in references:
            other = self._features(self._place.references[number].path).extracted(self._matcher.device)
            (matches,) = self._matcher.match_both_ways([(extracted, other)])
            model = self._place.references[number].model
            sightings.setdefault(model, []).append(self._sightings(keypoints, number, matches))
        scale = float(keypoints.scale.mean())
        all_of = {model: Sightings.joined(parts).once(AGREEING_PX * scale) for model, parts in sightings.items()}
        model = max(all_of, key=lambda number: len(all_of[number].points))
        found = all_of[model]
        camera, focal = self._camera(photo, model, K)
        pose = estimate_pose(found, self._place.models[model], camera, focal, MAX_ERROR * scale, self._seed)
        inliers = 0 if pose is None else int(pose.inliers.sum())
        names = [self._place.references[number].name for number in references]
        return Localised(photo, names, model, found, pose if inliers >= LEAST_INLIERS else None, inliers)

    def _most_alike(self, keypoints: ImageKeypoints) -> list[int]:
        own = self._describe(keypoints.descriptors)
        near = np.argsort(-(self._described @ own), kind="stable")[:JOINED]
        own = unit(own + falling_weights(len(near)) @ self._described[near])
        return [int(i) for i in np.argsort(-(self._joined @ own), kind="stable")[: self._partners]]

    def _sightings(self, keypoints: ImageKeypoints, number: int, matches: PairMatches) -> Sightings:
        """Return the model's points in a query, by its matches with a reference.

        Where a detection of the reference was measured in the query, its keypoint and thereby its point is known by
        identity; where a detection of the query was measured in the reference, by the keypoint that is there.
        """
        place, table = self._place.references[number], self._place.table(number)
        there, back = matches.confidence0 > 0, matches.confidence1 > 0
        row = np.full(max(int(matches.cell1.max(initial=0)), int(table.detections.max(initial=0))) + 1, -1)
        row[table.detections] = table.rows
        radius = RADIUS * float(self._place.keypoints(number).scale.mean())
        near = nearest_within(matches.points1[back].astype(np.float64), table.points.astype(np.float64), radius)
        rows = np.concatenate([row[matches.cell1[there]], near])
        points = np.concatenate([matches.points0[there], keypoints.points[matches.cell0[back]]]).astype(np.float64)
        confidence = np.concatenate([matches.confidence0[there], matches.confidence1[back]]).astype(np.float64)
        numbers = np.where(rows >= 0, np.append(place.points, -1)[rows], -1)
        kept = numbers >= 0
        return Sightings(points[kept], numbers[kept], confidence[kept])

    def _camera(self, photo: Photo, model: int, K: FloatArray | None) -> tuple[Any, Focal]:
        if K is not None:
            params = [K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5]
            width, height = photo.size
            return load_pycolmap().Camera(model="PINHOLE", width=width, height=height, params=params), "known"
        shared = self._place.camera(photo, model)
        if shared is not None:
            return shared, "known"
        camera = colmap_camera(CameraGroup([0], photo.size, photo.focal), 1)
        return camera, "unknown" if photo.focal is None else "rough"
