"""The optional parts of the installation, and the line that says how to get one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from s2ld.errors import S2LDError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("pytorch_lightning", "torchmetrics", "kornia", "h5py", "poselib", "matplotlib", "tensorboard"),
    "eval": ("kornia", "h5py", "poselib", "matplotlib"),
    "sfm": ("pycolmap", "h5py", "matplotlib"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "demo": ("matplotlib", "poselib", "skimage"),
    "hub": ("huggingface_hub",),
    "faiss": ("faiss",),
    "web": ("starlette", "uvicorn", "python_multipart"),
}
"""Modules of each extra of pyproject.toml."""


def need(extra: str, *modules: str) -> None:
    """See that an extra is there, or, where `modules` are given, these of it; nothing is imported.

    Raises:
        S2LDError: some are missing: one line, with the command that installs them.
    """
    missing = [name for name in modules or EXTRAS[extra] if not is_there(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise S2LDError(f"{', '.join(missing)} {verb} missing: {install(extra)}")


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "s2ld[{extra}]"'


def is_there(module: str) -> bool:
    """Return whether a module can be found."""
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
