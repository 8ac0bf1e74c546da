"""The page of a model in a headless Chromium: drawn, turned, and told from the file alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.viz import model_page
from s2ld.viz.model_page import write_model_page
from s2ld.viz.reconstruction import ColouredModel

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: the page is not tested in a browser")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def model(points: int) -> ColouredModel:
    """A green box of points before two cameras, one of whose names would end a script."""
    random = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = -1
    corners = np.tile(np.array([[-0.5, -0.4], [0.5, -0.4], [0.5, 0.4], [-0.5, 0.4]]), (2, 1, 1))
    return ColouredModel(
        random.uniform([-1, -1, 4], [1, 1, 6], (points, 3)),
        np.tile(np.array([[0, 200, 0]], np.uint8), (points, 1)),
        poses,
        corners,
        ["a.jpg", "</script>.jpg"],
        random.integers(2, 5, points),
        np.full(2, points),
    )


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: the page is not tested in a browser")
def test_a_browser_shows_and_turns_it(tmp_path: Path) -> None:
    path = tmp_path / "model.html"
    write_model_page(model(4000), "a <model>", path)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 600})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
        page.goto(path.as_uri())
        page.wait_for_function("document.getElementById('view').width > 300")
        before = _shot(page)
        page.keyboard.press("Tab")
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        after = _shot(page)
        assert page.title() == "a <model>"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("cameras.map((camera) => camera.name)") == ["a.jpg", "</script>.jpg"]
        browser.close()
    assert wrong == []
    green = np.abs(before - [0, 200, 0]).sum(2) < 60
    assert green.mean() > 0.02
    assert (
        (before[..., 0] > before[..., 1] + 30) & (before[..., 1] > before[..., 2] + 15)
    ).sum() > 20  # orange cameras
    assert (np.abs(after - before).sum(2) > 60).mean() > 0.02


def test_of_too_many_points_those_most_seen_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = model(4000)
    write_model_page(many, "all", tmp_path / "all.html")
    monkeypatch.setattr(model_page, "MOST_POINTS", 1000)
    kept = model_page._kept(many)
    assert len(kept) == 1000
    assert many.seen[kept].min() == 4
    write_model_page(many, "some", tmp_path / "some.html")
    assert (tmp_path / "some.html").stat().st_size < (tmp_path / "all.html").stat().st_size - 30_000
    write_model_page(model(0), "none", tmp_path / "none.html")
    assert '"points":0' in (tmp_path / "none.html").read_text()


def _shot(page: object) -> np.ndarray:
    picture = page.locator("#view").screenshot()  # type: ignore[attr-defined]
    return cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
