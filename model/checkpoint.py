"""Files of weights: written whole or not at all, verified and read as data only."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import torch

from util.files import InputError, write_file

# What torch.load and zipfile make of damaged bytes and of files that are something else.
UNREADABLE = (pickle.UnpicklingError, struct.error, zipfile.BadZipFile, EOFError, RuntimeError, LookupError)
UNREADABLE += (ValueError, AttributeError, TypeError, AssertionError, NotImplementedError, OverflowError)


class CheckpointError(InputError):
    """A file of weights that cannot be used; the message names the file, the field and what to do."""


def save_file(contents, path):
    """torch.save to `path`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_file(Path(path), buffer.getbuffer())


def load_file(path, device="cpu"):
    """torch.load of a dict, data only: a file that would run code is refused. Raises CheckpointError.

    torch.save stores a CRC-32 of every tensor, which torch.load does not look at: it is verified here.
    """
    try:
        contents = io.BytesIO(Path(path).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; make it with train.py --run") from None
    try:
        with zipfile.ZipFile(contents) as records:
            if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
                raise ValueError("compressed, which torch.save never does")
            if damaged := records.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
        contents.seek(0)
        contents = torch.load(contents, map_location=device, weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path}: damaged, foreign or holding code, so not loaded ({brief(error)}); copy it again or train anew"
        ) from None
    if not isinstance(contents, dict):
        kind = type(contents).__name__
        raise CheckpointError(f"{path}: holds a {kind}, not a policy; give a policy.pt written by train.py")
    return contents


def check_tensors(found, expected):
    """ValueError unless `found` is a dict of finite floating-point tensors, named and shaped as those in `expected`."""
    if not isinstance(found, dict) or found.keys() != expected.keys():
        odd = sorted(map(str, set(found) ^ set(expected)))[:3] if isinstance(found, dict) else [type(found).__name__]
        raise ValueError(f"missing or unknown: {', '.join(odd)}")
    for name, like in expected.items():
        tensor = found[name]
        if not torch.is_tensor(tensor) or tensor.shape != like.shape or not tensor.is_floating_point():
            was = f"{tensor.dtype} {tuple(tensor.shape)}" if torch.is_tensor(tensor) else type(tensor).__name__
            raise ValueError(f"{name} is {was}; floats {tuple(like.shape)} are needed")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinity")


def brief(error, length=160):
    """An error's message on one line, cut short."""
    return " ".join(str(error).split())[:length]
