"""What a client sends, read within the limits and kept in memory alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from s2ld.data.images.image_files import check_header, decode_pixels
from s2ld.data.images.pixels import UInt8Image, to_uint8
from s2ld.errors import one_line
from s2ld.files import printable
from s2ld.web.limits import BAD_INPUT, MOST_POINTS, TOO_LARGE, TOO_SLOW, WRONG_TYPE, Limits, Refused

_FIELD_BYTES = 2**16  # of a text field
_MOST_FIELDS = 32
_POINT_BYTES = 200  # of a match in JSON, at most
_NAME = 80  # characters of a file's name in a message


@dataclass(frozen=True)
class Upload:
    """A file as it was sent."""

    name: str
    """For messages: one line, not too long. It says nothing of the type, which the content tells."""
    data: bytes

    def decode(self, limits: Limits) -> UInt8Image:
        """Return the pixels, upright, (H, W) grey or (H, W, 3) RGB.

        Raises:
            S2LDError: no picture, or a damaged one.
            Refused: it has too many pixels.
        """
        header = check_header(self.data, self.name)
        if header.width * header.height > limits.megapixels * 1e6:
            raise Refused(
                TOO_LARGE,
                f"{self.name}: {header.width} x {header.height} px are more than the {limits.megapixels:g} megapixels "
                "that are taken here; make it smaller",
            )
        return to_uint8(decode_pixels(self.data, self.name), self.name, measured=True)


@dataclass(frozen=True)
class Form:
    """The parts of a multipart request."""

    files: Mapping[str, Upload]
    fields: Mapping[str, str]

    def file(self, name: str) -> Upload:
        """Return a file; raises `Refused` where it is missing or empty."""
        if name not in self.files or not self.files[name].data:
            raise Refused(BAD_INPUT, f"{name} is missing or empty; send a photograph as a file of this name")
        return self.files[name]


async def read_form(request: Request, limits: Limits, files: int) -> Form:
    """Read a multipart request of at most `files` files.

    Raises:
        Refused: another type, too large, too slow, or not well formed.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused(WRONG_TYPE, "send the photographs as multipart/form-data")
    most = files * limits.file_bytes + _MOST_FIELDS * _FIELD_BYTES
    stream = _bounded(request, most, f"a photograph may have {limits.megabytes:g} MB here; make it smaller")
    parser = _InMemory(request.headers, stream, max_files=files, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES)
    parser.spool_max_size = most + 1
    try:
        async with asyncio.timeout(limits.seconds):
            parts = await parser.parse()
    except MultiPartException as error:
        raise Refused(BAD_INPUT, f"the form cannot be read: {one_line(error.message)}") from error
    except TimeoutError as error:
        raise Refused(TOO_SLOW, f"the upload took more than {limits.seconds:g} s; send smaller photographs") from error
    uploads: dict[str, Upload] = {}
    fields: dict[str, str] = {}
    for name, part in parts.multi_items():
        if isinstance(part, UploadFile):
            uploads[name] = _checked(Upload(_shown(part.filename or name), await part.read()), limits)
            await part.close()
        else:
            fields[name] = part
    return Form(uploads, fields)


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """Read a JSON object of at most so many points as a model is fitted to; raises `Refused` as `read_form`."""
    data = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in _bounded(request, MOST_POINTS * _POINT_BYTES, f"send {MOST_POINTS} matches at most"):
                data += chunk
        content = json.loads(data)
    except TimeoutError as error:
        raise Refused(TOO_SLOW, f"the request took more than {limits.seconds:g} s; send less") from error
    except (ValueError, RecursionError) as error:
        raise Refused(BAD_INPUT, f"this is no JSON ({one_line(error)}); send an object") from error
    if not isinstance(content, dict):
        raise Refused(BAD_INPUT, "send a JSON object")
    return content


async def read_away(request: Request, limits: Limits, files: int = 2) -> None:
    """Let a client that is refused end its upload, as far as it is one of ours, so that it hears why."""
    with suppress(Refused, TimeoutError, ClientDisconnect):
        async with asyncio.timeout(limits.seconds):
            async for _ in _bounded(request, files * limits.file_bytes, ""):
                pass


class _InMemory(MultiPartParser):
    """Starlette's parser, whose files never reach the disk: `spool_max_size` is above what is read at all."""


async def _bounded(request: Request, most: int, remedy: str) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise Refused(TOO_LARGE, f"{int(declared) / 2**20:.1f} MB are too much; {remedy}")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Refused(TOO_LARGE, f"more than {most / 2**20:.1f} MB are too much; {remedy}")
        yield chunk


def _checked(upload: Upload, limits: Limits) -> Upload:
    if len(upload.data) > limits.file_bytes:
        size = len(upload.data) / 2**20
        raise Refused(TOO_LARGE, f"{upload.name}: {size:.1f} MB are more than {limits.megabytes:g} MB; make it smaller")
    return upload


def _shown(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _NAME else f"{name[: _NAME // 2]}...{name[-_NAME // 2 :]}"
