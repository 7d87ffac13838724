"""Files of weights: written whole or not at all, read as data only."""

import os
import pickle
import struct

import torch

# What torch.load makes of damaged bytes and of files that are something else.
UNREADABLE = (pickle.UnpicklingError, struct.error, EOFError, OSError, RuntimeError, LookupError)
UNREADABLE += (ValueError, AttributeError, TypeError, AssertionError)


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message names the file, the field and what to do."""


def save_file(contents, path):
    """torch.save beside `path`, flushed to disk, then moved into place: a kill leaves the old file or the new."""
    with open(f"{path}.part", "wb") as file:
        torch.save(contents, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.part", path)


def load_file(path, device="cpu"):
    """torch.load of a dict, data only: a file that would run code is refused. Raises CheckpointError."""
    try:
        contents = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; make it with train.py --run") from None
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path}: truncated, foreign or holding code, so not loaded ({brief(error)}); train it anew with train.py"
        ) from None
    if not isinstance(contents, dict):
        kind = type(contents).__name__
        raise CheckpointError(f"{path}: holds a {kind}, not a policy; give a policy.pt written by train.py")
    return contents


def brief(error, length=160):
    """An error's message on one line, cut short."""
    return " ".join(str(error).split())[:length]
