"""Unpickling of numpy arrays, numpy scalars and plain containers, and of nothing else.

A pickle is a program: it may import any callable and call it. Here the few names that pickled arrays use are mapped
to functions of this module, which check what they are given; numpy's own constructors are never called with a
file's arguments, since an invented dtype (with object fields, say) would let a file forge pointers.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.data.index.pickle_bounds import check_bounds
from s2ld.errors import S2LDError, one_line

DTYPE_KINDS = "biufcSUO"
"""Kinds of dtype that are admitted: numbers, truth values, text and objects (themselves checked)."""


class ForbiddenGlobalError(pickle.UnpicklingError):
    """A pickle asked to import something that is not admitted."""


def safe_load(data: bytes, origin: str) -> Any:
    """Unpickle `data`; `origin` is named in errors.

    Raises:
        S2LDError: the pickle is damaged, asks to import anything but what numpy arrays are made of (it is named), or
            for far more memory than it has bytes.
    """
    try:
        check_bounds(data)
        return _Unpickler(io.BytesIO(data)).load()
    except ForbiddenGlobalError as error:
        raise S2LDError(
            f"{origin}: refused: this pickle asks for {one_line(error)}, which no table of arrays needs; "
            "do not trust this file"
        ) from error
    except Exception as error:  # whatever damaged or invented bytes may lead the machine into
        message = one_line(error) or type(error).__name__
        raise S2LDError(f"{origin}: not a pickle of numpy arrays ({message}); fetch the file again") from error


class _Dtype:
    """Stands for a dtype while unpickling."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in DTYPE_KINDS or self.dtype.names or self.dtype.subdtype:
            raise ForbiddenGlobalError(f"dtype {code}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take over the byte order; everything else is in the code."""
        if any(part is not None for part in state[2:5]):
            raise ForbiddenGlobalError("a structured dtype")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """An array whose state carries a `_Dtype`."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, fortran, values = state
        if not isinstance(dtype, _Dtype):
            raise ForbiddenGlobalError("an array without a dtype")
        super().__setstate__((version, shape, dtype.dtype, fortran, values))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global of the pickle (``numpy.core`` is ``numpy._core`` since numpy 2)."""
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"  # only ever an argument of _reconstruct
        if (module, name) not in _ADMITTED:
            raise ForbiddenGlobalError(f"{module}.{name}")
        return _ADMITTED[module, name]


def _dtype(code: str, *_: bool) -> _Dtype:
    return _Dtype(str(code))


def _reconstruct(*_: object) -> NDArray[Any]:
    return np.ndarray.__new__(_Array, (0,), "b")


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype.dtype, 1)[0]


def _frombuffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    values = np.frombuffer(data, dtype.dtype)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Pickle protocols below 3 write bytes as text of this encoding."""
    if encoding != "latin1":
        raise ForbiddenGlobalError(f"encoding {encoding}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
}
