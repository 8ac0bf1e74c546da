"""Every address: what it answers, and the line and status of what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from web_stand_in import COUNT, INLIERS, SHIFT, StandIn, photo

pytest.importorskip("starlette", reason="the extra web is not installed")
from starlette.testclient import TestClient

from s2ld.web.app import HEADERS, build_app
from s2ld.web.fields import match_fields
from s2ld.web.limits import Limits
from s2ld.web.service import Service, guessed_intrinsics

LIMITS = Limits(megabytes=0.2, megapixels=0.05, side=1024, requests=4)
PAIR = {"image0": ("a.png", photo(seed=0)), "image1": ("b.png", photo(seed=1))}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    service = Service({"one": StandIn(), "two": StandIn()}, LIMITS)  # type: ignore[dict-item]
    with TestClient(build_app(service, LIMITS)) as client:
        yield client


def test_a_pair_is_matched_in_px_of_the_photographs(client: TestClient) -> None:
    found = client.post("/match", files=PAIR).json()
    assert found["weights"] == "one"
    assert (found["size0"], found["resized1"]) == ([96, 64], [640, 424])
    assert len(found["points0"]) == len(found["confidence"]) == COUNT - 20
    moved = np.array(found["points1"]) - found["points0"]
    np.testing.assert_allclose(moved, np.tile(SHIFT, (COUNT - 20, 1)), atol=2e-3)
    assert found["model"] is None


@pytest.mark.parametrize("kind", ["homography", "fundamental", "essential"])
def test_a_model_is_fitted_and_its_share_told(client: TestClient, kind: str) -> None:
    if kind == "essential":
        pytest.importorskip("poselib")
    asked = {"threshold": "0", "estimate": kind, "inlier_threshold": "0.5"}
    model = client.post("/match", files=PAIR, data=asked).json()["model"]
    assert (model["kind"], model["threshold"]) == (kind, 0.5)
    assert sum(model["inliers"][-INLIERS:]) == INLIERS
    assert model["share"] == pytest.approx(np.mean(model["inliers"]))
    if kind == "homography":
        np.testing.assert_allclose(np.array(model["matrix"]), [[1, 0, 6], [0, 1, -4], [0, 0, 1]], atol=1e-3)
    assert (model["rotation"] is not None) == (kind == "essential")


def test_the_default_error_of_an_inlier_is_of_the_resized_image(client: TestClient) -> None:
    model = client.post("/match", files=PAIR, data={"estimate": "homography", "resolution": "192"}).json()["model"]
    assert model["threshold"] == pytest.approx(2 * 96 / 192)


def test_an_npz_holds_what_the_json_does(client: TestClient) -> None:
    asked = {"estimate": "homography", "top_k": "30"}
    found = client.post("/match", files=PAIR, data=asked).json()
    answer = client.post("/match", files=PAIR, data=asked, headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(answer.content)) as file:
        arrays = dict(file)
    assert len(arrays["points0"]) == 30
    for name in ("points0", "points1", "confidence", "score"):
        np.testing.assert_allclose(arrays[name], found[name], atol=1e-3)
    assert arrays["inliers"].tolist() == found["model"]["inliers"]
    np.testing.assert_allclose(arrays["homography"], found["model"]["matrix"])


def lines(answer: Any) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_lines_tell_the_steps_and_end_with_the_same_result(client: TestClient) -> None:
    told = lines(client.post("/match", files=PAIR, headers={"Accept": "application/x-ndjson"}))
    assert told[0] == {"waiting": 0}
    assert [line["step"] for line in told[1:-1]][-1] == "matching"
    whole = client.post("/match", files=PAIR).json()
    assert {**told[-1]["result"], "seconds": 0} == {**whole, "seconds": 0}


def test_lines_end_with_the_error(client: TestClient) -> None:
    files = PAIR | {"image1": ("notes.jpg", b"These are notes.")}
    told = lines(client.post("/match", files=files, headers={"Accept": "application/x-ndjson"}))
    assert told[-1] == {"error": "notes.jpg: not an image that OpenCV can decode; is the file complete?"}


def test_rotation_and_weights_are_taken(client: TestClient) -> None:
    found = client.post("/match", files=PAIR, data={"rotation": "auto", "weights": "two"}).json()
    assert (found["weights"], len(found["points0"])) == ("two", COUNT - 20)


@pytest.mark.parametrize(
    ("files", "fields", "status", "line"),
    [
        ({"image1": ("n.jpg", b"text")}, {}, 422, "n.jpg: not an image that OpenCV can decode; is the file complete?"),
        ({"image1": ("n.jpg", b"")}, {}, 422, "image1 is missing or empty; send a photograph as a file of this name"),
        ({"image1": ("n.png", photo(400, 200))}, {}, 413, "n.png: 400 x 200 px are more than the 0.05 megapixels"),
        ({"image1": ("n.png", bytes(2**18))}, {}, 413, "n.png: 0.2 MB are more than 0.2 MB; make it smaller"),
        ({"image1": ("n.png", bytes(2**23))}, {}, 413, "8.0 MB are too much; a photograph may have 0.2 MB here"),
        ({"image2": ("n.png", b"x")}, {}, 422, "the form cannot be read: Too many files."),
        ({}, {"threshold": "1.5"}, 422, "threshold must be a number from 0 to 0.999, not 1.5"),
        ({}, {"threshold": "nan"}, 422, "threshold must be a number from 0 to 0.999, not nan"),
        ({}, {"top_k": "2.5"}, 422, "top_k must be a whole number from 1, not 2.5"),
        ({}, {"resolution": "1032"}, 422, "resolution must be a whole number from 8 to 1024, not 1032"),
        ({}, {"weights": "../../w.pt"}, 422, "weights must be one of one, two, not ../../w.pt"),
        ({}, {"estimate": "affine"}, 422, "estimate must be one of homography, fundamental, essential, not affine"),
        ({}, {"inlier_threshold": "0"}, 422, "inlier_threshold must be a number above 0, not 0"),
        ({}, {"resize": "640"}, 422, "there is no field 'resize'; there are weights, threshold, top_k, resolution"),
    ],
)
def test_what_is_refused_is_one_line(
    client: TestClient, files: dict[str, Any], fields: dict[str, str], status: int, line: str
) -> None:
    answer = client.post("/match", files=PAIR | files, data=fields)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(line)


def test_a_file_name_is_one_short_line(client: TestClient) -> None:
    answer = client.post("/keypoints", files={"image": (f"{'x' * 300}\x1b[31m.jpg", b"text")})
    error = answer.json()["error"]
    assert len(error) < 200
    assert error.isprintable()


def test_other_bodies_and_answers_are_refused(client: TestClient) -> None:
    plain = client.post("/match", content=b"x", headers={"Content-Type": "image/png"})
    assert (plain.status_code, plain.json()["error"]) == (415, "send the photographs as multipart/form-data")
    other = client.post("/match", files=PAIR, headers={"Accept": "text/html"})
    assert (other.status_code, "application/x-npz" in other.json()["error"]) == (406, True)
    broken = client.post("/match", content=b"x", headers={"Content-Type": "multipart/form-data; boundary=y"})
    assert (broken.status_code, broken.json()["error"][:26]) == (422, "the form cannot be read: I")


def test_when_all_seats_are_taken_the_next_one_is_told_so(client: TestClient) -> None:
    limits = Limits(requests=1)
    app = build_app(Service({"one": Busy()}, limits), limits)  # type: ignore[dict-item]
    with TestClient(app) as client:
        Busy.client = client
        first = client.post("/match", files=PAIR)
    assert first.status_code == 200
    assert (Busy.second.status_code, Busy.second.headers["retry-after"]) == (503, "30")
    assert Busy.second.json() == {"error": "1 requests are here already; try again in a minute"}


class Busy(StandIn):
    """Sends a second request while the first one is worked on."""

    client: TestClient
    second: Any

    def extract(self, image: Any) -> Any:
        Busy.second = self.client.post("/match", files=PAIR)
        return image


def test_a_seat_is_given_back_after_every_kind_of_answer(client: TestClient) -> None:
    for _ in range(2 * LIMITS.requests):
        client.post("/match", files=PAIR, headers={"Accept": "application/x-ndjson"})
        client.post("/match", files={})
        client.post("/keypoints", files={"image": ("n.jpg", b"text")})
        client.post("/estimate", content=b"{")
    assert client.post("/match", files=PAIR).status_code == 200


def test_keypoints_of_one_photograph_by_falling_score(client: TestClient) -> None:
    found = client.post("/keypoints", files={"image": PAIR["image0"]}).json()
    assert (found["size"], len(found["points"])) == ([96, 64], 96)
    assert found["scores"] == sorted(found["scores"], reverse=True)


def estimate(client: TestClient, **changes: Any) -> Any:
    points = (np.random.default_rng(1).random((50, 2)) * 300).tolist()
    asked = {"points0": points, "points1": points, "size0": [400, 300], "size1": [400, 300], "kind": "homography"}
    return client.post("/estimate", json=asked | changes)


def test_a_model_of_known_matches(client: TestClient) -> None:
    found = estimate(client).json()
    assert (found["share"], found["threshold"]) == (1.0, 2.0)
    np.testing.assert_allclose(np.array(found["matrix"]), np.eye(3), atol=1e-4)
    none = estimate(client, points0=[], points1=[]).json()
    assert (none["matrix"], none["inliers"], none["share"]) == (None, [], 0.0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"points0": [[1, 2]]}, "1 points and 50 make no matches; send pairs"),
        ({"points0": [[1, 2, 3]]}, "points0 must be a list of at most 20000 finite [x, y], px"),
        ({"points0": [[1, "x"]]}, "points0 must be a list of at most 20000 finite [x, y], px"),
        ({"points0": {"a": 1}}, "points0 must be a list of at most 20000 finite [x, y], px"),
        ({"size1": [0, 3]}, "size0 and size1 must be [width, height] in px, not [0, 3]"),
        ({"kind": "affine"}, "kind must be one of homography, fundamental, essential, not affine"),
        ({"threshold": True}, "threshold must be a number above 0, not True"),
        ({"what": 1}, "there is no field 'what'; there are kind, threshold, focal0, focal1"),
    ],
)
def test_wrong_matches_are_one_line(client: TestClient, changes: dict[str, Any], line: str) -> None:
    answer = estimate(client, **changes)
    assert (answer.status_code, answer.json()) == (422, {"error": line})


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"points0": [[1e999, 2]]}'])
def test_what_is_no_json_object_is_one_line(client: TestClient, body: bytes) -> None:
    answer = client.post("/estimate", content=body)
    assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_a_preview_shows_what_browsers_cannot_read(client: TestClient) -> None:
    answer = client.post("/preview", files={"image": ("a.tif", photo(64, 48, kind=".tiff"))})
    shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert (answer.headers["x-width"], answer.headers["x-height"], shown.shape) == ("64", "48", (48, 64, 3))


def test_status_tells_what_the_page_must_know(client: TestClient) -> None:
    told = client.get("/status").json()
    assert told["weights"] == {"one": 0.2, "two": 0.2}
    assert told["limits"] == {"megabytes": 0.2, "megapixels": 0.05, "side": 1024}
    assert (told["waiting"], told["example"]) == (0, False)


def test_every_answer_forbids_what_is_from_elsewhere(client: TestClient) -> None:
    for address in ("/", "/main.js", "/status", "/nothing"):
        headers = client.get(address).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS


def test_addresses_that_are_not_there(client: TestClient) -> None:
    for answer, status in ((client.get("/nothing"), 404), (client.get("/example/0"), 404), (client.post("/"), 405)):
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert client.get("/../app.py").status_code == 404


def test_the_document_tells_every_field_and_address(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {"/match", "/keypoints", "/estimate", "/preview"}
    form = api["paths"]["/match"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    names = [field.name for field in match_fields(["one"], LIMITS)]
    assert list(form["properties"]) == ["image0", "image1", *names]
    assert form["properties"]["resolution"]["maximum"] == LIMITS.side
    schemas = api["components"]["schemas"]
    found = client.post("/match", files=PAIR, data={"estimate": "homography"}).json()
    assert list(schemas["Matches"]["properties"]) == list(found)
    assert list(schemas["Model"]["properties"]) == list(found["model"])
    assert list(schemas["Keypoints"]["properties"]) == list(
        client.post("/keypoints", files={"image": PAIR["image0"]}).json()
    )


def test_guessed_intrinsics_have_their_centre_in_the_middle() -> None:
    K = guessed_intrinsics((400, 300), None)
    np.testing.assert_allclose(K, [[480, 0, 199.5], [0, 480, 149.5], [0, 0, 1]])
    assert guessed_intrinsics((400, 300), 500.0)[0, 0] == 500
