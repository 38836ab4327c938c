"""Arrays as bytes and back, in the safetensors format: a header that says where each lies, then nothing but numbers."""

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from checkpoints.disk import UnexpectedFile

_HEADER = 2**20
"""Bytes that a header may have, for some 10,000 arrays: one of 90 MB would take half a minute and 3 GB to parse."""


def encode(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Raises ValueError, TypeError, SafetensorError where something is no array of plain numbers."""
    data = save(dict(arrays))
    if _header(data) > _HEADER:
        raise ValueError(f"{len(arrays)} arrays are too many for one file")
    return data


def decode(data: bytes) -> dict[str, np.ndarray]:
    """What encode was given. Raises UnexpectedFile for everything else."""
    if _header(data) > _HEADER:
        raise UnexpectedFile(f"is damaged: its header would have {_header(data)} bytes")
    try:
        return load(data)
    # The format knows types and shapes that NumPy has not.
    except (SafetensorError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise UnexpectedFile(f"is damaged ({error!s:.200})") from error


def _header(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")
