"""Draw docs/images/wide_baseline.jpg: a rendered corner seen from two sides, matched by the shipped weights.

The corner is a scene of `s2ld.data.synthetic`, so that the true place of every pixel is known. Its surfaces show
photographs that scikit-image ships and that are in the public domain or CC0. From the repository's root:

    python docs/images/wide_baseline.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage
import torch

from s2ld import Matcher
from s2ld.data.images.reading import read_image, write_image
from s2ld.data.images.textures import TextureBank
from s2ld.data.synthetic.render import Atlas, Rendered, render_views
from s2ld.data.synthetic.scene import Array, Camera, Quads, Scene, Skins, pinhole
from s2ld.viz.matches import Panel, draw_panels

PHOTOS = (
    *("brick.png", "gravel.png", "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"),
    *("hubble_deep_field.jpg", "camera.png", "grass.png"),
)
BRICK, GRAVEL, ASTRONAUT, CAT, COFFEE, ROCKET, STARS, CAMERA, GRASS = range(len(PHOTOS))
SIZE = (640, 480)  # px
DOWN = np.array([0.0, 1.0, 0.0])
CORNER = np.array([0.0, 0.0, 6.0])  # scene units; the floor is 1.6 below the cameras
LEFT, RIGHT = (np.array([side * np.sqrt(0.5), 0.0, -np.sqrt(0.5)]) for side in (-1.0, 1.0))  # along the walls
WRONG = 3.0  # px


def quad(centre: Array, left: Array, half: tuple[float, float], texture: int, span: float) -> tuple[object, ...]:
    """Return the row of an upright patch; `left` points to its left for one who stands before it."""
    return centre, left * half[0], DOWN * half[1], texture, span


def scene() -> Scene:
    """Return two brick walls with pictures, a floor, and a box before the corner."""
    rows = [
        quad(CORNER + 4 * LEFT, LEFT, (4.0, 1.6), BRICK, 8.0),
        quad(CORNER + 4 * RIGHT, -RIGHT, (4.0, 1.6), GRASS, 8.0),
        (CORNER + 1.6 * DOWN, np.array([-8.0, 0.0, 0.0]), np.array([0.0, 0.0, -8.0]), GRAVEL, 12.0),
    ]
    inward = 0.02 * (LEFT + RIGHT)
    for along, texture in ((1.4, ASTRONAUT), (3.6, ROCKET)):
        rows.append(quad(CORNER + along * LEFT + inward, LEFT, (0.85, 0.85), texture, 1.7))
    for along, texture in ((1.4, CAT), (3.6, STARS)):
        rows.append(quad(CORNER + along * RIGHT + inward, -RIGHT, (0.85, 0.85), texture, 1.7))
    box = CORNER + 1.9 * (LEFT + RIGHT) + 1.2 * DOWN
    rows.append(quad(box + 0.4 * RIGHT, LEFT, (0.4, 0.4), COFFEE, 0.8))
    rows.append(quad(box + 0.4 * LEFT, -RIGHT, (0.4, 0.4), CAMERA, 0.8))
    rows.append((box - 0.4 * DOWN, 0.4 * LEFT, 0.4 * RIGHT, GRAVEL, 1.1))
    centre, u, v, texture, span = zip(*rows, strict=True)
    quads = Quads(np.array(centre), np.array(u), np.array(v), np.zeros(len(rows), bool))
    # u points to the left, and a texture runs backwards from 1.5 sides: the pictures read from left to right
    origin = np.tile([1.5, 0.5], (len(rows) + 2, 1))
    skins = Skins(
        np.array([*texture, STARS, STARS]), np.array([*span, 1.0, 1.0]), origin, np.array([1.0] * len(rows) + [0.1] * 2)
    )
    return Scene(quads, None, skins)


def camera(x: float, z: float, fov: float) -> Camera:
    """Return a camera at (x, 0, z) that looks at the corner."""
    eye, aim = np.array([x, 0.0, z]), CORNER + 0.25 * DOWN + 0.7 * (LEFT + RIGHT)
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    aside = np.cross(DOWN, forward)
    aside /= np.linalg.norm(aside)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([aside, np.cross(forward, aside), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return Camera(pinhole(fov, SIZE), pose)


def squares(folder: Path) -> TextureBank:
    """Return the photographs, cut to squares in `folder`."""
    files = []
    for name in PHOTOS:
        image = read_image(Path(skimage.__file__).parent / "data" / name)
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        files.append(folder / f"{Path(name).stem}.png")
        write_image(np.ascontiguousarray(image[top : top + side, left : left + side]), files[-1])
    return TextureBank.of_files(files)


def errors(points0: Array, points1: Array, views: Rendered, cameras: tuple[Camera, Camera]) -> Array:
    """Return how far each match is from the truth, px; NaN where the point is not seen in view 1."""
    at = points0.round().astype(int)
    z = views.depth[0].numpy()[at[:, 1], at[:, 0]].astype(float)
    rays = np.column_stack([points0, np.ones(len(points0))]) @ np.linalg.inv(cameras[0].K).T
    relative = cameras[1].pose @ np.linalg.inv(cameras[0].pose)
    local = (rays * z[:, None]) @ relative[:3, :3].T + relative[:3, 3]
    true = (local @ cameras[1].K.T)[:, :2] / local[:, 2:]
    return np.asarray(np.where(z > 0, np.linalg.norm(true - points1, axis=1), np.nan))


def main(output: str = "docs/images/wide_baseline.jpg") -> None:
    """Render, match and draw."""
    cameras = (camera(-2.7, 0.0, 66.0), camera(2.3, -0.9, 60.0))
    with TemporaryDirectory() as folder:
        atlas = Atlas(squares(Path(folder)), 512, 64)
        views = render_views([scene()] * 2, cameras, atlas, SIZE, 3)
    images = [view.numpy() for view in views.image]
    torch.manual_seed(0)
    matches = Matcher.from_pretrained("s2ld-lite", device="cpu")(*images)
    wrong = errors(matches.points0, matches.points1, views, cameras)
    directions = [one.pose[2, :3] for one in cameras]
    angle = np.degrees(np.arccos(directions[0] @ directions[1]))
    right = np.mean(wrong[np.isfinite(wrong)] < WRONG)
    title = f"{len(matches.points0)} matches, {angle:.0f} degrees apart"
    values = np.where(np.isfinite(wrong), wrong < WRONG, np.nan)
    classes = ("wrong", f"within {WRONG:.0f} px")
    draw_panels(*images, [Panel(matches.points0, matches.points1, values, title, classes)], output)
    print(f"{output}: {title}, {100 * right:.0f} % {classes[1]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
