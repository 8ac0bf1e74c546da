"""The page in a headless Chromium: what a user does, and what is then seen and saved."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from web_stand_in import COUNT, INLIERS, StandIn, photo, served

pytest.importorskip("starlette", reason="the extra web is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: the page is not tested in a browser")
expect = playwright.expect
expect.set_options(timeout=60_000)  # for a machine that is busy with other things

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: the page is not tested in a browser")
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
TIMES = "\N{MULTIPLICATION SIGN}"
DEFAULT = COUNT - 20
"""Matches above the stand-in's threshold."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from s2ld.web.app import build_app
    from s2ld.web.limits import Limits
    from s2ld.web.service import Service

    paths = []
    for seed in (0, 1):
        paths.append(tmp_path_factory.mktemp("example") / f"{seed}.png")
        paths[-1].write_bytes(photo(seed=seed))
    limits = Limits(megabytes=1)
    service = Service({"one": StandIn(), "two": StandIn()}, limits)  # type: ignore[dict-item]
    with served(build_app(service, limits, (paths[0], paths[1]))) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(address) else None)
    page.goto(address)
    expect(page.locator("#example")).to_be_visible()
    yield page
    context.close()
    assert [line for line in wrong if not line.startswith(f"blob:{address}")] == []


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    paths = [tmp_path / name for name in ("left.png", "right.jpg")]
    paths[0].write_bytes(photo(320, 240, 0))
    paths[1].write_bytes(photo(320, 240, 1, ".jpg"))
    return [str(path) for path in paths]


def give(page: Any, *files: str) -> None:
    page.set_input_files(".photo[data-side='0'] input", list(files))


def slide(page: Any, name: str, value: float) -> None:
    page.locator(f"#{name}").evaluate(
        "(input, value) => { input.value = value;"
        " for (const kind of ['input', 'change']) input.dispatchEvent(new Event(kind)); }",
        value,
    )


def says(page: Any, text: str) -> None:
    expect(page.locator("#summary")).to_contain_text(text)


def saved(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def drawn(page: Any) -> np.ndarray:
    """The canvas, (H, W, 3) RGB."""
    url = page.locator("#canvas").evaluate("canvas => canvas.toDataURL()")
    pixels = cv2.imdecode(np.frombuffer(b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    return pixels[..., ::-1].astype(int)


def test_a_pair_is_matched_and_the_threshold_changes_how_many_are_shown(page: Any, pair: list[str]) -> None:
    give(page, *pair)
    says(page, f"{DEFAULT} of {COUNT - 5} matches; matched at 640 {TIMES} 480 px")
    expect(page.locator(".photo[data-side='1'] .title")).to_have_text("right.jpg")
    yellow = (np.abs(drawn(page) - [253, 231, 37]).max(2) < 40).sum()
    slide(page, "threshold", 0.9)
    says(page, f"10 of {COUNT - 5} matches")
    slide(page, "threshold", 0.99)
    says(page, f"1 of {COUNT - 5} matches")
    assert (np.abs(drawn(page) - [253, 231, 37]).max(2) < 40).sum() < yellow / 2


def test_what_is_saved_is_what_is_shown(page: Any, pair: list[str], tmp_path: Path) -> None:
    give(page, *pair)
    page.select_option("#model", "homography")
    slide(page, "threshold", 0.1)
    says(page, f"90 of {COUNT - 5} matches; 88.9 % ({INLIERS}) are inliers of the homography")
    truth = StandIn().match(np.zeros((240, 320)), np.zeros((240, 320)), 0.1)
    with np.load(saved(page, "#npz", tmp_path)) as file:
        arrays = dict(file)
    assert (tmp_path / "left-right.npz").exists()
    for name, value in truth.arrays().items():
        np.testing.assert_allclose(arrays[name], value, atol=1e-3)
        assert arrays[name].dtype == np.float32
    assert (arrays["inliers"].dtype, arrays["inliers"].sum()) == (bool, INLIERS)
    np.testing.assert_allclose(arrays["homography"], [[1, 0, 6], [0, 1, -4], [0, 0, 1]], atol=0.05)
    page.check("#inliers-only")
    says(page, f"{INLIERS} of {COUNT - 5} matches")
    header, *rows = saved(page, "#csv", tmp_path).read_text().splitlines()
    assert header == "x0,y0,x1,y1,confidence,score,inlier"
    table = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    np.testing.assert_allclose(table[:, :4], np.hstack([truth.points0, truth.points1])[10:], atol=2e-3)
    assert table[:, 6].all()
    picture = cv2.imread(str(saved(page, "#picture", tmp_path)))
    assert picture.shape[1] == 2400


@pytest.mark.parametrize(("model", "name"), [("fundamental", "fundamental matrix"), ("essential", "essential matrix")])
def test_other_models_tell_their_share(page: Any, pair: list[str], model: str, name: str) -> None:
    if model == "essential":
        pytest.importorskip("poselib")
    give(page, *pair)
    page.select_option("#model", model)
    says(page, f"are inliers of the {name}")
    assert page.locator("#focal").is_visible() == (model == "essential")


def test_a_text_file_with_a_pictures_name_is_one_line_in_the_page(page: Any, pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("These are notes.")
    give(page, str(tmp_path / "notes.jpg"))
    line = "notes.jpg: not an image that OpenCV can decode; is the file complete?"
    expect(page.locator("#error")).to_have_text(line)
    (tmp_path / "large.jpg").write_bytes(bytes(2**20 + 2**19))
    give(page, str(tmp_path / "large.jpg"))
    expect(page.locator("#error")).to_have_text("large.jpg: 1.5 MB are more than 1 MB; make it smaller")
    give(page, *pair)
    says(page, "matches")
    expect(page.locator("#error")).to_be_hidden()


def test_a_photograph_that_the_browser_cannot_read_is_shown(page: Any, pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(photo(160, 240, kind=".tiff"))
    give(page, str(tmp_path / "scan.tif"), pair[1])
    says(page, "matches")
    expect(page.locator(".photo[data-side='0'] .hint")).to_have_text(f"160 {TIMES} 240 px")


def test_the_second_photograph_fades_over_the_first(page: Any, pair: list[str], tmp_path: Path) -> None:
    give(page, *pair)
    says(page, "matches")
    page.click("[data-view=overlay]")
    says(page, "are inliers of the homography")
    images = [cv2.imread(path).astype(int) for path in pair]
    expected = {0: images[0], 100: np.roll(images[1], (4, -6), (0, 1))}  # H moves by (6, -4)
    for fade, truth in expected.items():
        slide(page, "fade", fade)
        picture = cv2.resize(
            cv2.imread(str(saved(page, "#picture", tmp_path))), (320, 240), interpolation=cv2.INTER_AREA
        )
        assert np.abs(picture - truth)[20:-20, 20:-20].mean() < 6, fade


def test_the_warp_is_opencvs(page: Any) -> None:
    H = np.array([[0.9, 0.1, 5], [-0.08, 1.05, -3], [4e-4, -3e-4, 1]])
    image = cv2.imdecode(np.frombuffer(photo(96, 64, 3), np.uint8), cv2.IMREAD_COLOR)
    rgba = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)
    seen = page.evaluate(
        """async ([pixels, width, height, H]) => {
          const { warped } = await import("/warp.js");
          const picture = new OffscreenCanvas(width, height);
          picture.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels), width, height), 0, 0);
          const sizes = [[width, height], [width, height]];
          return [...warped(picture, picture, H, sizes).getContext("2d").getImageData(0, 0, width, height).data];
        }""",
        [rgba.ravel().tolist(), 96, 64, H.tolist()],
    )
    seen = np.array(seen).reshape(64, 96, 4)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # x1 = H x0 is where image 0 looks into image 1
    truth = cv2.warpPerspective(rgba, H, (96, 64), flags=flags, borderValue=(0, 0, 0, 0))
    inside = (truth[..., 3] == 255) & (seen[..., 3] == 255)
    assert inside.mean() > 0.6
    assert np.abs(seen[inside].astype(int) - truth[inside]).max() <= 6  # OpenCV rounds places to 1/32 px


def test_keypoints_alone_need_one_photograph(page: Any, pair: list[str]) -> None:
    give(page, pair[0])
    expect(page.locator("#note")).to_have_text("Give a second photograph to match.")
    page.click("[data-view=keypoints]")
    says(page, "500 of 1,200 keypoints")
    slide(page, "points", 50)
    says(page, "50 of 1,200 keypoints")
    expect(page.locator("#npz")).to_be_hidden()


def test_the_wheel_zooms_and_the_button_shows_all_again(page: Any, pair: list[str]) -> None:
    give(page, *pair)
    says(page, "matches")
    before = drawn(page)
    page.locator("#canvas").hover()
    page.mouse.wheel(0, -600)
    expect(page.locator("#canvas")).to_have_css("touch-action", "none")
    assert np.abs(drawn(page) - before).mean() > 5
    page.click("[data-zoom=all]")
    np.testing.assert_array_equal(drawn(page), before)


def test_photographs_chosen_before_the_program_answered_are_matched(page: Any, address: str, pair: list[str]) -> None:
    waiting: list[Any] = []
    page.route("**/status", lambda route: waiting.append(route))
    with page.expect_request("**/status"):
        page.goto(address)
    give(page, *pair)
    waiting.pop().continue_()
    says(page, f"{DEFAULT} of {COUNT - 5} matches")


def test_other_settings_match_again(page: Any, pair: list[str]) -> None:
    give(page, *pair)
    says(page, f"640 {TIMES} 480 px")
    slide(page, "resolution", 320)
    says(page, f"320 {TIMES} 240 px")
    page.check("#rotation")
    page.select_option("#weights", "two")
    says(page, f"{DEFAULT} of {COUNT - 5} matches")


def test_the_camera_takes_a_photograph(page: Any) -> None:
    page.click(".photo[data-side='1'] .camera")
    page.click("#shutter .take")
    expect(page.locator(".photo[data-side='1'] .title")).to_have_text("camera 2.jpg")
    expect(page.locator("#shutter")).to_be_hidden()


def test_the_example_and_ten_requests_at_once_end(page: Any) -> None:
    page.click("#example button")
    says(page, f"{DEFAULT} of {COUNT - 5} matches")
    counts = page.evaluate(
        """async () => {
          const { match, example } = await import("/server.js");
          const files = await Promise.all([0, 1].map(example));
          const all = Array.from({ length: 10 }, () => match(files, { weights: "one" }, () => {}));
          return (await Promise.all(all)).map((found) => found.points0.length);
        }"""
    )
    assert counts == [DEFAULT] * 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser: Any, address: str, pair: list[str], scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    page = context.new_page()
    for at in ("/", "/docs.html"):
        page.goto(address + at)
        if at == "/":
            give(page, *pair)
            says(page, "matches")
        else:
            expect(page.locator("h2").first).to_contain_text("/match")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    dark = [int(part) for part in re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))]
    assert (max(dark[:3]) < 60) == (scheme == "dark")
    context.close()
