"""Arrays become bytes and come back in the safetensors format: a header tells where each lies, then come numbers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from checkpoints.disk import CheckpointError, read_verified

_HEADER = 2**20
"""Bytes that a header may have, for some 10,000 arrays: one of 90 MB would take half a minute and 3 GB to parse."""


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of a file of `arrays`.

    Raises ValueError, TypeError, SafetensorError where something is no array of plain numbers.
    """
    data = save(dict(arrays))
    if _header(data) > _HEADER:
        raise ValueError(f"{len(arrays)} arrays are too many for one file")
    return data


def read_arrays(file: Path, size: int, sha256: str, limit: int | None) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of `size` bytes and this hash.

    Raises CheckpointError for every other file, and for one of more than `limit` bytes before it is read.
    """
    if limit is not None and size > limit:
        raise CheckpointError(f"{file} has {size} bytes, far more than this run's can have; use an older checkpoint")
    data = read_verified(file, size, sha256)
    try:
        if _header(data) > _HEADER:
            raise ValueError(f"its header would have {_header(data)} bytes")
        return load(data)
    # The format knows types and shapes that NumPy has not.
    except (SafetensorError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{file} is damaged ({error!s:.200}); use an older checkpoint") from error


def check_like(
    file: Path, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], rows: int | None = None
) -> None:
    """Raises CheckpointError unless `found`, read from `file`, holds each array of `expected` with its shape and dtype.

    rows: how many rows, along the first axis, each array must have instead of those in `expected`.
    """
    for key, array in expected.items():
        needed = f"{array.dtype} {array.shape if rows is None else (rows, *array.shape[1:])}"
        given = f"{found[key].dtype} {found[key].shape}" if key in found else "missing"
        if given != needed:
            raise CheckpointError(
                f"{file} does not fit this run: {key} is {given} there, and {needed} here; use the code and the "
                "options that wrote it"
            )


def _header(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")
