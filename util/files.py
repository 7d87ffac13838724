"""Files that others may have damaged, and files that must not be lost: checks, locks, writing."""

import errno
import fcntl
import io
import json
import os
import pickle
import tempfile
import zipfile
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import numpy as np


class InputError(ValueError):
    """Something given from outside cannot be used; the message names file, field and remedy in one line."""


def write_file(path, contents):
    """Write bytes or text beside `path`, then move it there: a kill or a full disk leaves what was there before."""
    contents = contents.encode() if isinstance(contents, str) else contents
    part = path.with_name(f"part.{path.name}")
    try:
        with open(part, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file under the new name
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = f"{len(contents) / 1e6:.1f} MB are needed; free some space, what was there before is kept"
            raise InputError(f"{path}: the disk is full, {needed}") from None
        error.filename = str(path)
        raise


class Spool:
    """Arrays in a temporary file, one after another: what a run reads may be larger than the memory, and the system
    keeps as much of it there as there is room for.
    """

    file = None

    def append(self, array):
        """Write an array -> its shape. InputError where the disk is full."""
        folder = os.environ.get("TMPDIR", "/var/tmp")  # on the disk; /tmp may lie in memory
        try:
            self.file = self.file or tempfile.TemporaryFile(dir=folder)
            self.file.write(np.ascontiguousarray(array))
            self.file.flush()
        except OSError as error:
            needed = "room for a copy of all frames and cached features is needed there, or in another TMPDIR"
            raise InputError(f"{folder}: {error.strerror}; {needed}") from None
        return array.shape

    def mapped(self, dtype):
        """All its numbers (N,); the file is deleted with the last array that is made of them."""
        return np.asarray(np.memmap(self.file, dtype, "r+"))


@contextmanager
def locked(folder, busy):
    """Keep a folder for this process while the block lasts; InputError, `busy`, where another process has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"{folder}: {busy}") from None
    except OSError:
        pass  # a file system that has no locks
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def claimed(path):
    """Keep a result's file for this process while the block makes it; OSError or InputError, at once, if it cannot."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file; move it away or choose another name")
    part = path.with_name(f"part.{path.name}")  # which write_file renames, so that the lock ends up on the result
    part.touch()
    with locked(part, "another process is making this result; wait for it or choose another --out"):
        try:
            yield
        finally:
            part.unlink(missing_ok=True)


def read_json(path):
    """What a file of JSON holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path, contents, indent=1):
    """Write a file of JSON; a Path in it becomes a string."""
    write_file(path, json.dumps(contents, indent=indent, default=os.fspath) + "\n")


def save_tensors(contents, path):
    """torch.save of a dict to `path`, whole or not at all."""
    import torch  # here, since data/ and sim/ use this file and never torch

    buffer = io.BytesIO()
    torch.save(contents, buffer)
    write_file(Path(path), buffer.getbuffer())


def load_tensors(path, fields, device="cpu"):
    """torch.load of a dict that holds `fields`, {name: type}; code, damage and weights of NaN are refused."""
    import torch

    try:
        with zipfile.ZipFile(path) as records:
            damaged = records.testzip()  # torch.save keeps a checksum of every tensor, torch.load does not check it
        contents = {} if damaged else torch.load(path, map_location=device, weights_only=True)
        wrong = [name for name, kind in fields.items() if not isinstance(contents.get(name), kind)]
        finite = all(torch.isfinite(t).all() for t in contents.get("weights", {}).values())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; train.py --run writes it") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, RuntimeError, LookupError, ValueError, TypeError,
            AttributeError) as error:  # fmt: skip
        kind = type(error).__name__  # torch's own message advises to load the code
        raise InputError(f"{path}: damaged or holding code, so not loaded ({kind}); train it again") from None
    if damaged or wrong or not finite:
        what = f"record {damaged} is damaged" if damaged else f"field {wrong[0]} is missing" if wrong else "NaN weights"
        raise InputError(f"{path}: not a usable file of weights ({what}); copy it again or train it again")
    return contents


def brief(error, length=120):
    """The message of an error on one line, cut short."""
    return " ".join(str(error).split())[:length]


def check_same(path, found, wanted):
    """InputError unless `found`, what the file at `path` says that it was made by, has the fields of `wanted`."""
    if not isinstance(found, dict):
        raise InputError(f"{path}: exists and is not of this program; move it away or choose another --out")
    for field, value in wanted.items():
        if (was := found.get(field)) != value:
            asked = f"asked for is {value!r}; choose another --out or delete it"
            raise InputError(f"{path}: exists with {field}={was!r}, {asked}")


def check_ranges(config, **checks):
    """InputError for the first field of a config that is out of range; checks: field=(whether it is good, what is)."""
    for field, (good, needed) in checks.items():
        if not good:
            raise InputError(f"{type(config).__name__} field {field}={getattr(config, field)!r}: needed is {needed}")


def check_call(policy, frames, prompts, rng, steps, least):
    """ValueError for arguments of VideoPolicy.act and imagine with which they would decide at random, or not at all."""
    c, device = policy.config, policy.video_std.device.type
    if not isinstance(prompts, list | tuple) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"prompts {prompts!r:.80}: a list of strings is needed, one for each item of the batch")
    kind = str(getattr(frames, "dtype", type(frames).__name__)).removeprefix("torch.")
    if kind != "uint8":
        raise ValueError(f"frames are {kind}; uint8 0..255 is needed")
    if tuple(frames.shape) != (needed := (len(prompts), len(c.cameras), 3, c.image_size, c.image_size)):
        raise ValueError(f"frames {tuple(frames.shape)}: for {len(prompts)} prompts this policy needs {needed}")
    if getattr(getattr(rng, "device", None), "type", None) != device or not hasattr(rng, "manual_seed"):
        raise ValueError(f"rng {rng!r}: a torch.Generator on {device} is needed, where the policy is")
    if not isinstance(steps, Integral) or steps < least:
        raise ValueError(f"{steps!r} denoising steps: a whole number is needed, at least {least}")
