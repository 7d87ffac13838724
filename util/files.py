"""Files that others may have damaged, and files that must not be lost: checks, locks, writing."""

import errno
import fcntl
import json
import os
from contextlib import contextmanager


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
            os.fsync(file.fileno())  # or a power cut could leave an empty file under the new name
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = f"{len(contents) / 1e6:.1f} MB are needed; free some space, what was there before is kept"
            raise InputError(f"{path}: the disk is full, {needed}") from None
        error.filename = str(path)
        raise


def check_writable(path):
    """OSError or InputError where `path` cannot be written, said before hours of work and not after them."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file; move it away or choose another name")
    trial = path.with_name(f"{path.name}.test")
    write_file(trial, b"")
    trial.unlink()


@contextmanager
def locked(folder, busy):
    """Keep a folder for this process while the block lasts; InputError, `busy`, where another process has it.

    The lock ends with the process, whichever way that ends.
    """
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


def read_json(path):
    """What a file of JSON holds; None where it is damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path, contents, indent=1):
    """Write a file of JSON."""
    write_file(path, json.dumps(contents, indent=indent) + "\n")


def check_same(path, found, wanted):
    """InputError unless `found`, what the file at `path` says that it was made by, has the fields of `wanted`."""
    if not isinstance(found, dict):
        raise InputError(f"{path}: exists and is not of this program; move it away or choose another --out")
    for field, value in wanted.items():
        if (was := found.get(field)) != value:
            asked = f"asked for is {value!r}; choose another --out or delete it"
            raise InputError(f"{path}: exists with {field}={was!r}, {asked}")


def check_fields(found, limits):
    """ValueError that names the first field of the dict `found` that `limits`, {field: (kind, low, high)}, forbid.

    kind is int, float, bool or str, or (int,) for a tuple of one to 16 of them. low and high bound numbers and the
    length of strings.
    """
    for field, (kind, low, high) in limits.items():
        value = found[field]
        many = isinstance(kind, tuple)
        items, kind = (value, kind[0]) if many else ([value], kind)
        good = not many or (isinstance(items, tuple) and 1 <= len(items) <= 16)
        for item in items if good else ():
            right = type(item) is kind or (kind is float and type(item) is int)
            good &= right and low <= (len(item) if kind is str else item) <= high  # a NaN is not
        if not good:
            needed = f"{'a tuple of ' * many}{kind.__name__}, {low:g} to {high:g},"
            raise ValueError(f"field {field} is {repr(value)[:60]}; {needed} is needed")
