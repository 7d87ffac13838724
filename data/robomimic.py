"""robomimic's HDF5 layout, read: files of demonstrations -> clips, whoever wrote them (robomimic, MimicGen, LIBERO,
RoboCasa or sim/demos.py).

Frames from obs/<camera>_image, `actions` where there are any, the prompt from the file or given by hand. Files are
untrusted: every shape, type and size is checked before an array is read, every number after, and no link out of the
file is followed.
"""

import json
import os
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from cli import InputError
from data.windows import Clip

LARGEST_ACTION = 1e4  # in any unit a robot is driven in; beyond lie damaged files



def find_files(data, tasks):
    """{task: file} for --data (a folder of <Task>.hdf5, or one file) and --tasks (names, or ["all"])."""
    data = Path(data)
    if data.is_file():
        if len(tasks) > 1:
            raise InputError(f"--tasks: {len(tasks)} names for the one file {data}; give one, or a folder as --data")
        return {tasks[0] if len(tasks) == 1 and tasks != ["all"] else data.stem: data}
    if not data.is_dir():
        raise InputError(f"--data {data}: no such file or folder; record demos with python -m sim.demos --out {data}")
    if tasks == ["all"]:
        tasks = sorted(path.stem for path in data.glob("*.hdf5"))
        if not tasks:
            raise InputError(f"--data {data}: holds no .hdf5 files; record demos with python -m sim.demos --out {data}")
    there = ", ".join(sorted(path.stem for path in data.glob("*.hdf5"))) or "none"
    for task in tasks:
        if not (data / f"{task}.hdf5").is_file():
            record = f"record with python -m sim.demos --tasks TASK --out {data}"
            raise InputError(f"{data / task}.hdf5: no such file; there are: {there}; {record}")
    return {task: data / f"{task}.hdf5" for task in tasks}


def read_clips(path, task, *, cameras, size, demos=None, labelled=None, prompt=None):
    """(training clips, held-out clips) of one demonstration file.

    demos: take the first so many demonstrations, in the order of their numbers; labelled: keep the actions of the first
    so many training clips only, the others become action-free video. Held out are those of them in
    mask/valid (every tenth where the file has no masks), or, where these are none, others of the file's mask/valid.
    Frames are resized to `size`.
    """
    try:
        with h5py.File(path, "r") as file:
            train, held_out = _read_clips(file, path, task, cameras, size, demos, prompt)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # what h5py makes of damaged bytes
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not a readable HDF5 file ({reason}); record or download it again") from None
    for clip in train[labelled:] if labelled is not None else ():
        clip.actions = None
    return train, held_out


def _read_clips(file, path, task, cameras, size, demos, prompt):
    data = _get(file, "data", h5py.Group, path)
    names = sorted((name for name in data if name.startswith("demo_")), key=_number)
    if not names:
        raise InputError(f"{path}: data holds no demo_<N> groups; this is not robomimic's layout")
    if demos is not None and demos > len(names):
        raise InputError(f"{path}: holds {len(names)} demos, --demos asks for {demos}; record more or ask for fewer")
    valid = _mask(file, path) or set(names[9::10])
    chosen = names[:demos]
    train = [name for name in chosen if name not in valid]
    held_out = [name for name in chosen if name in valid] or [name for name in names if name in valid][:10]
    if not train:
        raise InputError(
            f"{path}: mask/valid holds out all of the {len(chosen)} demos asked for; none is left to train on"
        )
    _check_memory(data, train + held_out, cameras, size, path)
    clips = {name: _read_demo(data, name, path, task, cameras, size, prompt) for name in train + held_out}
    return [clips[name] for name in train], [clips[name] for name in held_out]


def _number(name):
    digits = name.removeprefix("demo_")
    return (int(digits) if digits.isdigit() else float("inf"), name)


def _get(group, key, kind, path):
    """group[key], which must lie in this very file and be of `kind`; InputError otherwise."""
    where = f"{group.name.rstrip('/')}/{key}"
    link = group.get(key, getlink=True)
    if link is None:
        raise InputError(f"{path}: {where} is missing (there is: {', '.join(list(group)[:8]) or 'nothing'})")
    if not isinstance(link, h5py.HardLink):
        raise InputError(
            f"{path}: {where} is a link to another place, which is not followed; copy the data into the file"
        )
    found = group[key]
    if not isinstance(found, kind):
        raise InputError(f"{path}: {where} is a {type(found).__name__}, a {kind.__name__} is needed")
    if kind is h5py.Dataset and (found.is_virtual or found.external):
        raise InputError(
            f"{path}: {where} keeps its data in another file, which is not followed; copy the data into the file"
        )
    return found


def _mask(file, path):
    """Names in mask/valid, empty where the file has no masks."""
    if "mask" not in file or "valid" not in _get(file, "mask", h5py.Group, path):
        return set()
    names = _get(file["mask"], "valid", h5py.Dataset, path)
    if names.ndim != 1 or names.dtype.kind not in "SO" or names.size > 1_000_000:
        raise InputError(f"{path}: mask/valid is not a list of demo names")
    return {name.decode() if isinstance(name, bytes) else str(name) for name in names[:]}


def _images(data, name, camera, path):
    """The image dataset of one camera, checked but not read; camera may be given with or without "_image"."""
    obs = _get(_get(data, name, h5py.Group, path), "obs", h5py.Group, path)
    key = camera if camera.endswith("_image") else f"{camera}_image"
    if key not in obs:
        known = [k.removesuffix("_image") for k in obs if k.endswith("_image")]
        choice = ", ".join(known) or "none, the file has no images"
        raise InputError(f"{path}: data/{name}/obs/{key} is missing; choose --cameras from: {choice}")
    images = _get(obs, key, h5py.Dataset, path)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise InputError(f"{path}: {images.name} is {images.dtype} {images.shape}; uint8 (N, H, W, 3) is needed")
    return images


def _check_memory(data, names, cameras, size, path):
    """Refuse a file whose frames cannot fit in memory, or that declares far more than it holds, before reading."""
    declared = stored = resized = 0
    for name in names:
        for camera in cameras:
            images = _images(data, name, camera, path)
            declared += images.nbytes
            resized += 3 * len(images) * size**2
            stored += images.id.get_storage_size()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if max(declared, resized) > 0.8 * memory:
        needs = f"its frames need {max(declared, resized) / 1e9:.1f} GB, this machine has {memory / 1e9:.1f} GB"
        raise InputError(f"{path}: {needs}; take fewer with --demos")
    if declared > 2000 * stored:
        holds = f"obs/*_image declare {declared / 1e6:.0f} MB of frames but only {stored} bytes are stored"
        raise InputError(f"{path}: {holds}; record it again")


def _read_demo(data, name, path, task, cameras, size, prompt):
    group = data[name]
    frames = []
    for camera in cameras:
        images = _images(data, name, camera, path)
        frames.append(_read(images, path))
        if len(images) != len(frames[0]):
            raise InputError(f"{path}: {images.name} has {len(images)} frames, the first camera has {len(frames[0])}")
    frames = np.stack([resize(f, size) for f in frames], axis=1)  # (N, V, H, W, 3)
    actions = None
    if "actions" in group:
        dataset = _get(group, "actions", h5py.Dataset, path)
        if (
            dataset.ndim != 2
            or dataset.dtype.kind != "f"
            or len(dataset) != len(frames)
            or not 1 <= dataset.shape[1] <= 64
        ):
            found = f"{path}: {dataset.name} is {dataset.dtype} {dataset.shape}"
            raise InputError(f"{found}; floats ({len(frames)}, A) are needed, one row per frame")
        actions = _read(dataset, path).astype(np.float32)
        wrong = ~(np.abs(actions) < LARGEST_ACTION)  # a NaN is not below anything
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            what = f"{dataset.name} holds {actions[row, column]} at step {row}"
            raise InputError(f"{path}: {what}; finite numbers below {LARGEST_ACTION:g} are needed")
    text = prompt or _prompt(data, group, path)
    return Clip(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)), actions, text, task)


def _read(dataset, path):
    try:
        return dataset[()]
    except OSError as error:
        raise InputError(
            f"{path}: {dataset.name} cannot be read ({error}); the file is damaged, record or download it again"
        ) from None


def resize(frames, size):
    """(N, H, W, 3) -> (N, size, size, 3), by area averaging; untouched where the size is right."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX)) for frame in frames])


def _prompt(data, group, path):
    """The sentence of a demo: robomimic's and RoboCasa's ep_meta lang, or LIBERO's problem_info."""
    for attrs, key, field in ((group.attrs, "ep_meta", "lang"), (data.attrs, "problem_info", "language_instruction")):
        if key in attrs:
            try:
                text = json.loads(attrs[key])[field]
            except (ValueError, KeyError, TypeError):
                continue
            text = " ".join(text) if isinstance(text, list) else text
            if isinstance(text, str) and text.strip():
                return text
    raise InputError(f"{path}: {group.name} has no prompt (attribute ep_meta, field lang); give one with --prompt")
