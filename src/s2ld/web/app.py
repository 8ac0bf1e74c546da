"""The addresses of the page and of the interface, and what happens at each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2ld import __version__
from s2ld.errors import S2LDError, one_line
from s2ld.log import logger
from s2ld.types import FloatArray
from s2ld.web import answers
from s2ld.web.answers import JSON, LINES, NPZ
from s2ld.web.fields import MatchOptions, estimate_fields, keypoint_fields, match_fields, read_fields
from s2ld.web.limits import BAD_INPUT, BUSY, MOST_POINTS, Limits, Refused
from s2ld.web.line import Done, Line, Tell, Waiting
from s2ld.web.openapi import document
from s2ld.web.service import Matched, Service, fit_model
from s2ld.web.uploads import read_away, read_form, read_json

PAGE = Path(__file__).parent / "page"
"""Files that the browser loads."""
HEADERS = {
    # whatever a file's name or a mistake of ours might put into the page, it loads and sends nothing elsewhere
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer."""
_GONE, _NOT_ACCEPTABLE = 499, 406


def build_app(service: Service, limits: Limits, examples: tuple[Path, Path] | None = None) -> Starlette:
    """Return the application.

    Args:
        service: what does the work.
        limits: of requests.
        examples: files of a pair that the page offers; None: none.
    """
    addresses = _Addresses(service, limits, examples)
    routes = [
        Route("/status", addresses.status),
        Route("/openapi.json", addresses.openapi),
        Route("/example/{side:int}", addresses.example),
        Route("/match", addresses.match, methods=["POST"]),
        Route("/keypoints", addresses.keypoints, methods=["POST"]),
        Route("/estimate", addresses.estimate, methods=["POST"]),
        Route("/preview", addresses.preview, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        addresses.line.close()

    handlers: dict[Any, Any] = {S2LDError: addresses.refuse, HTTPException: _http_error, ClientDisconnect: _gone}
    return Starlette(routes=routes, middleware=[Middleware(_Headers)], exception_handlers=handlers, lifespan=lifespan)


class _Addresses:
    """What happens at each address; photographs live as long as their request."""

    def __init__(self, service: Service, limits: Limits, examples: tuple[Path, Path] | None) -> None:
        self.service, self.limits, self.examples = service, limits, examples
        self.line = Line(limits.requests)
        weights = list(service.thresholds)
        self.match_fields, self.keypoint_fields = match_fields(weights, limits), keypoint_fields(weights, limits)

    async def status(self, _: Request) -> Response:
        """Tell what the page must know before anything is sent."""
        limits = self.limits
        told = {"megabytes": limits.megabytes, "megapixels": limits.megapixels, "side": limits.side}
        content = {"version": __version__, "weights": self.service.thresholds, "limits": told}
        return JSONResponse(content | {"waiting": self.line.length, "example": self.examples is not None})

    async def openapi(self, _: Request) -> Response:
        """Return the OpenAPI document."""
        return JSONResponse(document(self.match_fields, self.keypoint_fields, self.limits))

    async def example(self, request: Request) -> Response:
        """Return a photograph of the example."""
        side = request.path_params["side"]
        if self.examples is None or side not in (0, 1):
            raise HTTPException(404)
        return Response(await asyncio.to_thread(self.examples[side].read_bytes), media_type="image/png")

    async def match(self, request: Request) -> Response:
        """Match two photographs."""
        kind = answers.wanted_type(request.headers.get("accept", ""))
        if kind is None:
            raise Refused(_NOT_ACCEPTABLE, f"there is {JSON}, {NPZ} and {LINES}; accept one of them")
        with ExitStack() as seat:
            seat.enter_context(self.line.seat())
            form = await read_form(request, self.limits, 2)
            options = MatchOptions(**read_fields(self.match_fields, form.fields))
            work = partial(self.service.match, (form.file("image0"), form.file("image1")), options)
            if kind == LINES:
                return _Lines(_told(self.line, work), seat.pop_all())
            found = await self.line.run(work)
            if kind == NPZ:
                name = {"Content-Disposition": 'attachment; filename="matches.npz"'}
                return Response(await asyncio.to_thread(answers.matched_npz, found), media_type=NPZ, headers=name)
            return JSONResponse(await asyncio.to_thread(answers.matched_json, found))

    async def keypoints(self, request: Request) -> Response:
        """Detect the keypoints of a photograph."""
        with self.line.seat():
            form = await read_form(request, self.limits, 1)
            values = read_fields(self.keypoint_fields, form.fields)
            upload = form.file("image")
            found = await self.line.run(lambda tell: self.service.keypoints(upload, **values, tell=tell))
            return JSONResponse(await asyncio.to_thread(answers.keypoints_json, found))

    async def preview(self, request: Request) -> Response:
        """Return a picture that any browser can show of a photograph that it may not be able to read."""
        with self.line.seat():
            upload = (await read_form(request, self.limits, 1)).file("image")
            preview = await self.line.run(lambda _: self.service.preview(upload))
            size = dict(zip(("X-Width", "X-Height"), map(str, preview.size), strict=True))
            return Response(preview.jpeg, media_type="image/jpeg", headers=size)

    async def estimate(self, request: Request) -> Response:
        """Fit a model of two views to matches that the client has."""
        with self.line.seat():
            content = await read_json(request, self.limits)
            points0, points1 = (_points(content.pop(name, None), name) for name in ("points0", "points1"))
            if len(points0) != len(points1):
                raise Refused(BAD_INPUT, f"{len(points0)} points and {len(points1)} make no matches; send pairs")
            sizes = _image_size(content.pop("size0", None)), _image_size(content.pop("size1", None))
            values = read_fields(estimate_fields(), content)
            focals = values["focal0"], values["focal1"]
            fit = partial(fit_model, points0, points1, values["kind"], values["threshold"], sizes, focals)
            return JSONResponse(answers.fit_json(await self.line.run(lambda _: fit())))

    async def refuse(self, request: Request, error: S2LDError) -> Response:
        """Answer by one line what cannot be done."""
        status = error.status if isinstance(error, Refused) else BAD_INPUT
        if status == BUSY:
            await read_away(request, self.limits)
        headers = {"Retry-After": "30"} if status == BUSY else None
        return JSONResponse({"error": one_line(error)}, status, headers)


class _Lines(StreamingResponse):
    """JSON, an object a line, while the request holds its seat."""

    def __init__(self, lines: AsyncIterator[bytes], seat: ExitStack) -> None:
        super().__init__(lines, media_type=LINES)
        self._seat = seat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._seat:
            await super().__call__(scope, receive, send)


async def _told(line: Line, work: Callable[[Tell], Matched]) -> AsyncIterator[bytes]:
    """Yield a line for everything that happens to a request: waiting, step, at last result or error."""

    def as_line(name: str, value: Any) -> bytes:
        return json.dumps({name: value}).encode() + b"\n"

    try:
        async for item in line.follow(work):
            if isinstance(item, Done):
                yield as_line("result", await asyncio.to_thread(answers.matched_json, item.result))
            elif isinstance(item, Waiting):
                yield as_line("waiting", item.before)
            else:
                yield as_line("step", item.name)
    except S2LDError as error:
        yield as_line("error", one_line(error))
    except Exception as error:  # the status is sent already; a defect of ours ends in a line too
        logger.exception("a request failed")
        yield as_line("error", f"this failed ({type(error).__name__}); it is a mistake of the program")


class _Headers:
    """Adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    lines = {404: "there is nothing at this address", 405: "this address takes another method"}
    return JSONResponse({"error": f"{lines.get(status, 'this cannot be done')}; see /openapi.json"}, status)


def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_GONE)  # the client ended its upload; nobody hears this


def _points(value: Any, name: str) -> FloatArray:
    try:
        points = np.array(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros(0, np.float32)
    if value == []:
        points = np.zeros((0, 2), np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) > MOST_POINTS or not np.isfinite(points).all():
        raise Refused(BAD_INPUT, f"{name} must be a list of at most {MOST_POINTS} finite [x, y], px")
    return points


def _image_size(value: Any) -> tuple[int, int]:
    if not (isinstance(value, list) and len(value) == 2 and all(type(x) is int and x > 0 for x in value)):
        raise Refused(BAD_INPUT, f"size0 and size1 must be [width, height] in px, not {one_line(value)}")
    return value[0], value[1]
