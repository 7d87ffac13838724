"""Demonstration files in robomimic's HDF5 layout: writing our own, and reading anybody's (robomimic, MimicGen, LIBERO,
RoboCasa).

    data.attrs            env_args (JSON), total, recipe (JSON: what was asked for), corrections (how many were added)
    data/demo_0           attrs: num_samples, model_file, ep_meta (JSON: lang, task, seed, shift)
        actions           (N, 7) float64   what the expert would do there: what to learn
        actions_executed  (N, 7) float64   what was done, the expert's action and noise: what replays
        states            (N, S) float64   simulator state before each action
        rewards, dones    (N,)
        obs/front_image   (N, H, W, 3) uint8, upright, one per camera
        obs/robot0_*      (N, ...) float64 eef_pos, eef_quat, gripper_qpos, joint_pos
    mask/train, mask/valid                 names of demos; every tenth is held out

Reading needs obs/<camera>_image, `actions` where there are any, and a prompt. Files are untrusted: every shape, type
and size is checked before an array is read, every number after, and no link out of the file is followed.
"""

import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from data.windows import Clip
from util.files import InputError, write_file

LARGEST_RATIO = 200  # of an array to what is stored of it; our images have 4, a film of one colour up to 1,000
LARGEST_ACTION = 1e4  # in any unit a robot is driven in; larger ones are found in damaged files only

# ---------------------------------------------------------------------- writing


@contextmanager
def new_file(path):
    """An HDF5 file that is built in memory and then moved to `path`: whatever happens, `path` is whole or not there.

    HDF5 writing to the disk itself leaves a damaged file when it is killed, and no plain error when the disk is full.
    """
    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        yield file
    write_file(path, contents.getbuffer())


def write_demo(group, attributes, arrays):
    """One demo into an empty group of an open file; images are compressed."""
    group.attrs.update(attributes)
    for name, values in arrays.items():
        if name.endswith("_image"):
            chunks = (min(16, len(values)), *values.shape[1:])
            group.create_dataset(name, data=values, chunks=chunks, compression="gzip", compression_opts=1)
        else:
            group[name] = values


def assemble(path, parts, recipe):
    """The finished file from files of one demo each, in their order; InputError for one that is damaged."""
    with new_file(path) as file:
        data = file.create_group("data")
        data.attrs["recipe"] = json.dumps(recipe)
        for i, part in enumerate(parts):
            try:
                with h5py.File(part) as source:
                    data.attrs["env_args"] = source.attrs["env_args"]
                    source.copy("demo", data, f"demo_{i}")
            except (OSError, KeyError, RuntimeError):
                raise InputError(f"{part}: damaged; delete it, and the same command records it anew") from None
        _sum_up(file, valid=[f"demo_{i}" for i in range(len(parts))][9::10])


def add_demos(path, demos):
    """Add demos, all of them to train on, to a finished file, which stays as it is until there is the last of them."""
    with h5py.File(path) as old, new_file(path) as file:
        old.copy("data", file)
        data, before = file["data"], len(old["data"])
        for demo in demos:
            write_demo(data.create_group(f"demo_{len(data)}"), *demo)
        data.attrs["corrections"] = len(data) - before
        _sum_up(file, valid=[name.decode() for name in old["mask/valid"]])


def _sum_up(file, valid):
    """What a file says of all its demos: their steps, and which are held out."""
    data = file["data"]
    data.attrs["total"] = sum(int(data[name].attrs["num_samples"]) for name in data)
    names = [f"demo_{i}" for i in range(len(data))]
    file["mask/train"] = np.array([name for name in names if name not in valid], dtype="S")
    file["mask/valid"] = np.array(valid, dtype="S")


# ---------------------------------------------------------------------- reading


def demo_files(folder):
    """The demonstration files of a folder, without those half written."""
    return sorted(path for path in folder.glob("*.hdf5") if not path.stem.startswith("part."))


def find_files(data, tasks):
    """{task: file} for --data (a folder of <Task>.hdf5, or one file) and --tasks (names, or ["all"])."""
    data = Path(data)
    if data.is_file():
        if len(tasks) > 1:
            raise InputError(f"--tasks: {len(tasks)} names for the one file {data}; give one, or a folder as --data")
        return {tasks[0] if tasks and tasks != ["all"] else data.stem: data}
    there = [path.stem for path in demo_files(data)]
    if not data.is_dir() or (tasks == ["all"] and not there):
        raise InputError(f"--data {data}: holds no .hdf5 files; record demos with python -m sim.demos --out {data}")
    files = {task: data / f"{task}.hdf5" for task in (there if tasks == ["all"] else tasks)}
    for task, path in files.items():
        if task not in there:
            record = f"record with python -m sim.demos --tasks TASK --out {data}"
            raise InputError(f"{path}: no such file; there are: {', '.join(there) or 'none'}; {record}")
    return files


def read_clips(path, task, *, cameras, size, demos=None, labelled=None, prompt=None):
    """(training clips, held-out clips) of one demonstration file.

    demos: take the first so many, by number; labelled: keep the actions of the first so many training clips only, the
    others become action-free video. Held out are those of them in mask/valid (every tenth where the file has no
    masks), or, where these are none, others of the file's mask/valid. Frames are resized to `size`.
    """
    check_memory([(path, demos)], cameras, size)
    with _open(path) as (file, data, names):
        train, held_out = _split(file, names, demos, path)
        clips = {}
        for name in train + held_out:
            views = _images(_get(data, name, path, h5py.Group), cameras, path)
            frames = np.stack([resize(view[()], size) for view in views], axis=1)  # (N, V, H, W, 3)
            actions = None
            if "actions" in data[name]:
                actions = _read_numbers(_actions(data[name], path, len(frames)), path).astype(np.float32)
            text = _prompt(data, name, path) if prompt is None else prompt
            clips[name] = Clip(np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3)), actions, text, task)
    for name in train[labelled:] if labelled is not None else ():
        clips[name].actions = None
    return [clips[name] for name in train], [clips[name] for name in held_out]


def check_memory(files, cameras, size):
    """InputError where the demos that read_clips would read cannot fit in memory together; files: of each (its path,
    how many of its demos, None for all).
    """
    needed = 0
    for path, demos in files:
        with _open(path) as (file, data, names):
            groups = [_get(data, name, path, h5py.Group) for name in sum(_split(file, names, demos, path), [])]
            views = [view for group in groups for view in _images(group, cameras, path)]
            needed += max(_declared(views, path), 3 * size**2 * sum(map(len, views)))
            _check_fits(needed, ", ".join(str(path) for path, _ in files))


def read_actions(path):
    """The actions of every demo of a file, by name: a list of float (N, A); InputError for a demo without them."""
    with _open(path) as (_, data, names):
        datasets = [_actions(_get(data, name, path, h5py.Group), path) for name in sorted(names)]
        _check_fits(_declared(datasets, path), path)
        return [_read_numbers(dataset, path) for dataset in datasets]


def resize(frames, size):
    """(N, H, W, 3) -> (N, size, size, 3), by area averaging; untouched where the size is right."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX)) for frame in frames])


def memory_bytes():
    """How much memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def _open(path):
    """(file, its group `data`, names of its demos by number); what h5py makes of damaged bytes is an InputError."""
    try:
        with h5py.File(path, "r") as file:
            data = _get(file, "data", path, h5py.Group)
            names = [name for name in data if name.startswith("demo_")]
            if not names:
                raise InputError(f"{path}: data holds no demo_<N> groups; this is not robomimic's layout")
            yield file, data, sorted(names, key=lambda name: (len(name), name))  # demo_2 before demo_10
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: no demonstrations can be read ({reason}); record or download it again") from None


def _get(group, key, path, kind):
    """group[key], which must lie in this very file and be of `kind`."""
    where = f"{path}: {group.name.rstrip('/')}/{key}"
    link = group.get(key, getlink=True)
    if link is None:
        raise InputError(f"{where} is missing (there is: {', '.join(list(group)[:8]) or 'nothing'})")
    found = group[key] if isinstance(link, h5py.HardLink) else None
    if found is None or (isinstance(found, h5py.Dataset) and (found.is_virtual or found.external)):
        raise InputError(f"{where} is a link or keeps its data in another file, which is not followed; copy it in")
    if not isinstance(found, kind):
        raise InputError(f"{where} is a {type(found).__name__}, a {kind.__name__} is needed")
    return found


def _check(good, found, path, needed):
    """InputError that says what is `needed` instead of the dataset found, which is not read yet, unless it is good."""
    if not good:
        raise InputError(f"{path}: {found.name} is {found.dtype} {found.shape}; {needed} is needed")


def _split(file, names, demos, path):
    """(names to train on, names held out) of the first so many demos, see read_clips."""
    if demos is not None and demos > len(names):
        raise InputError(f"{path}: holds {len(names)} demos, --demos asks for {demos}; record more or take fewer")
    valid = _valid(file, names, path)
    chosen = names[:demos]
    train = [name for name in chosen if name not in valid]
    held_out = [name for name in chosen if name in valid] or [name for name in names if name in valid][:10]
    if not train:
        raise InputError(f"{path}: mask/valid holds out all {len(chosen)} demos asked for; take more with --demos")
    return train, held_out


def _valid(file, names, path):
    """Names in mask/valid, which must be among `names`; every tenth of these where the file has no masks."""
    if "mask" not in file or "valid" not in _get(file, "mask", path, h5py.Group):
        return set(names[9::10])
    found = _get(file["mask"], "valid", path, h5py.Dataset)
    short = found.dtype.kind in "SO" and found.dtype.itemsize <= 256
    few = found.ndim == 1 and len(found) <= len(names)
    _check(short and few, found, path, f"a list of at most {len(names)} short names")
    valid = {name.decode() if isinstance(name, bytes) else str(name) for name in found[:]}
    if strange := sorted(valid - set(names)):
        raise InputError(f"{path}: mask/valid names {strange[0][:60]!r}, and data holds no such demo; mend the mask")
    return valid


def _images(demo, cameras, path):
    """The image datasets of some cameras, named as in the file, with or without "_image"."""
    obs, views = _get(demo, "obs", path, h5py.Group), []
    for camera in cameras:
        key = camera if camera in obs else f"{camera}_image"  # LIBERO has agentview_rgb
        if key not in obs:
            choice = ", ".join(k.removesuffix("_image") for k in obs if k.endswith("_image"))
            raise InputError(f"{path}: {obs.name}/{key} is missing; choose --cameras from: {choice or 'none there'}")
        view = _get(obs, key, path, h5py.Dataset)
        good = view.dtype == np.uint8 and view.ndim == 4 and view.shape[3] == 3 and 0 not in view.shape
        _check(good, view, path, "uint8 (N, H, W, 3)")
        views.append(view)
    if len({len(view) for view in views}) > 1:
        raise InputError(f"{path}: {obs.name}: the cameras have {[*map(len, views)]} frames; record it again")
    return views


def _actions(demo, path, frames=None):
    """The action dataset of a demo, of which there must be as many as `frames`, where given."""
    found = _get(demo, "actions", path, h5py.Dataset)
    good = found.dtype.kind == "f" and found.ndim == 2 and 0 not in found.shape and found.shape[1] <= 64
    good = good and len(found) == (frames or len(found))
    _check(good, found, path, f"floats ({frames or 'N'}, A), one row per frame,")
    return found


def _read_numbers(dataset, path):
    """The numbers of an action dataset, none of them absurd."""
    actions = dataset[()]
    wrong = ~(np.abs(actions) < LARGEST_ACTION)  # a NaN is not below anything
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = f"{path}: {dataset.name} holds {actions[row, column]:.1e} at step {row}"
        raise InputError(f"{found}; finite numbers below {LARGEST_ACTION:g} are needed")
    return actions


def _declared(datasets, path):
    """Bytes that datasets take in memory; InputError where that is far more than the file holds."""
    declared, stored = sum(d.nbytes for d in datasets), sum(d.id.get_storage_size() for d in datasets)
    if declared > 1e6 + LARGEST_RATIO * stored:
        holds = f"{datasets[0].name} and others declare {declared / 1e9:.1f} GB but only {stored} bytes are stored"
        raise InputError(f"{path}: {holds}; record it again")
    return declared


def _check_fits(needed, files):
    """InputError for more bytes than this machine can hold."""
    if needed > 0.8 * memory_bytes():
        needs = f"the demos need {needed / 1e9:.1f} GB, this machine has {memory_bytes() / 1e9:.1f} GB"
        raise InputError(f"{files[:200]}: {needs}; take fewer with --demos")


def _prompt(data, name, path):
    """The sentence of a demo: robomimic's and RoboCasa's ep_meta lang, or LIBERO's problem_info."""
    places = (data[name].attrs, "ep_meta", "lang"), (data.attrs, "problem_info", "language_instruction")
    for attrs, key, field in places:
        try:
            text = json.loads(attrs[key])[field]
        except (ValueError, KeyError, TypeError):
            continue
        text = " ".join(text) if isinstance(text, list) else text
        if isinstance(text, str) and text.strip():
            return text
    raise InputError(f"{path}: data/{name} has no prompt (attribute ep_meta, field lang); give one with --prompt")
