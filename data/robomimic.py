"""Demonstration files in robomimic's HDF5 layout: writes our own, reads those of robomimic, MimicGen, LIBERO, RoboCasa.

docs/data.md lists what is in a file. Reading needs data/demo_N/obs/<camera>_image, uint8 (N, H, W, 3), and a prompt;
`actions` (N, A) are float. A demo without them is action-free video.
"""

import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from data.poses import matrix_to_sixd
from data.windows import Clip, on_disk
from util.files import InputError, brief, write_file

FARTHEST = 3.0  # metres from the world's origin within which a hand is
RATE = 20  # control steps, and frames, per second
ENDINGS = (".hdf5", ".h5", ".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")  # of what somebody may take for data
NO_DATA = r"(^|/)(\.|part\.)|\.parts/"  # in the names of files that are hidden, or that a recorder left half written
CAUSES = {  # of an error in reading, by a word in it
    "unable to lock file": "another program writes to it; wait until that has ended",
    "PermissionError": "may not be read by you; change its permissions",
    "plugin": "is compressed by a filter that is missing here; where it is there, h5repack -f GZIP=1 rewrites it",
    "JSONDecodeError": "attribute env_args, ep_meta or problem_info is no JSON; correct it",
}


@contextmanager
def new_file(path):
    """An HDF5 file that is built in memory, then moved to `path`: a kill or a full disk leaves no damaged one."""
    contents = io.BytesIO()
    with h5py.File(contents, "w") as file:
        yield file
    write_file(path, contents.getbuffer())


def write_demo(group, attributes, arrays):
    """One demo into an empty group of an open file; images are compressed."""
    group.attrs.update(attributes)
    for name, values in arrays.items():
        packed = {"chunks": (min(16, len(values)), *values.shape[1:]), "compression": "gzip", "compression_opts": 1}
        group.create_dataset(name, data=values, **packed if name.endswith("_image") else {})


def assemble(path, parts, recipe):
    """Write the finished file from files of one demo each, in their order; InputError for one that is damaged."""
    with new_file(path) as file:
        data = file.create_group("data")
        data.attrs["recipe"] = json.dumps(recipe)
        for i, part in enumerate(parts):
            try:
                with h5py.File(part) as source:
                    data.attrs["env_args"] = source.attrs["env_args"]
                    source.copy("demo", data, f"demo_{i}")
            except (OSError, KeyError, RuntimeError):
                raise InputError(f"{part}: damaged; delete it, and the same command records it again") from None
        data.attrs["total"] = sum(int(demo.attrs["num_samples"]) for demo in data.values())
        names = [f"demo_{i}" for i in range(len(parts))]
        file["mask/train"] = np.array([name for i, name in enumerate(names) if i % 10 != 9], dtype="S")
        file["mask/valid"] = np.array(names[9::10], dtype="S")


def demo_files(folder):
    """The demonstration files of a folder."""
    return sorted(path for path in folder.glob("*.hdf5") if not re.search(NO_DATA, path.name))


@cache  # once, though a run looks for its files several times
def tell_leftovers(folder, taken, endings=ENDINGS):
    """Name on stderr what looks like data in a folder, or in folders in it, and is not `taken`."""
    found = (path for path in (*folder.glob("*"), *folder.glob("*/*")) if path.suffix.lower() in endings)
    names = sorted(str(path.relative_to(folder)) for path in found if path not in taken)
    if names := [name for name in names if not re.search(NO_DATA, name)]:
        shown = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        print(f"not taken from {folder}: {len(names)} file{'s' * (len(names) > 1)} ({shown})", file=sys.stderr)


def find_files(data, tasks, flag="--data"):
    """{task: file} for `flag` (a folder of <Task>.hdf5, or one file) and --tasks (names, none, or ["all"])."""
    data = Path(data)
    if not tasks:
        return {}
    if data.is_file():
        if len(tasks) > 1:
            raise InputError(f"--tasks: {len(tasks)} names for the one file {data}; give one, or a folder as --data")
        return {data.stem if task == "all" else task: data for task in tasks}
    known = {path.stem: path for path in demo_files(data)}
    tell_leftovers(data, tuple(known.values()))
    if not known:
        raise InputError(f"{flag} {data}: holds no .hdf5 files; record demos with python -m sim.demos --out {data}")
    tasks = known if tasks == ["all"] else tasks
    if missing := [task for task in tasks if task not in known]:
        record = f"record it with python -m sim.demos --tasks {missing[0]} --out {data}"
        raise InputError(f"{data / missing[0]}.hdf5: no such file; there are {', '.join(known)}; {record}")
    return {task: known[task] for task in tasks}


def read_clips(path, task, *, cameras, size, demos=None, labelled=None, prompt=None):
    """(training clips, held-out clips) of one demonstration file, frames resized to `size`.
    demos: take only the first N, by number. labelled: keep the actions of only the first N training clips; the others
    become action-free video. Held out are the demos in mask/valid, or every tenth if the file has none; if none of the
    first `demos` is held out, up to ten of the file's other held-out demos are taken. A line says what was read.
    """
    with _open(path) as (file, names):
        train, held_out = _split(file, names, demos)
        clips = on_disk(_clip(file["data"][name], task, cameras, size, prompt) for name in train + held_out)
        pixels = {view.shape[1:3] for view in _images(file["data"][train[0]], cameras)}
        unnamed = len(names) - sum(map(len, _split(file, names, None)))
    train, held_out = clips[: len(train)], clips[len(train) :]
    for clip in [] if labelled is None else train[labelled:] if labelled else clips:
        clip.actions = clip.poses = None  # of a task that is only watched, held-out clips are too
    used = f"{len(train)} of {len(names)} demos, {sum(clip.actions is not None for clip in train)} with actions"
    shown = ", ".join(f"{height} x {width}" for height, width in sorted(pixels))
    print(f"{path}: {used}, {len(held_out)} held out" + f", {unnamed} in no mask" * bool(unnamed),
          f"{RATE} frames per second, {shown} pixels" + f" resized to {size} x {size}" * (pixels != {(size, size)}),
          sep=", ")  # fmt: skip
    return train, held_out


def read_clip(path, name, cameras, size):
    """One demo of a file, with all that is known of it but for its prompt."""
    with _open(path) as (file, _):
        return _clip(file["data"][name], "", cameras, size, "")


def read_camera(path, name, camera):
    """(position, rotation, fovy) of a camera that stands still, from the model of a demo; None if there is none."""
    with _open(path) as (file, _):
        model = ET.fromstring(file["data"][name].attrs.get("model_file") or "<mujoco/>")
    if (found := model.find(f"worldbody/camera[@name='{camera}'][@xyaxes]")) is None:
        return None
    position, axes = (np.array(found.get(name).split(), float) for name in ("pos", "xyaxes"))
    x, y = axes.reshape(2, 3)
    return position, np.stack([x, y, np.cross(x, y)], axis=1), float(found.get("fovy", 45))


def file_cameras(path):
    """The cameras of a file: {name: side in pixels}."""
    with _open(path) as (file, names):
        return _cameras(file["data"][names[0]])


def read_actions(path):
    """The actions of every demo of a file, in alphabetical order: a list of float (N, A)."""
    with _open(path) as (file, names):
        return [_actions(file["data"][name]) for name in sorted(names)]


def resize(frames, size):
    """(N, H, W, 3) -> (N, size, size, 3), by area averaging; unchanged if the size is right."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX)) for frame in frames])


@contextmanager
def _open(path):
    """(file, names of its demos by number); InputError for an error of h5py's own, and for a file of another rate."""
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            names = [name for name in data if name.startswith("demo_")] if isinstance(data, h5py.Group) else []
            if not names:
                raise InputError(f"{path}: has no data/demo_N; convert it to robomimic's layout (docs/data.md)")
            said = json.loads(data.attrs.get("env_args") or "{}").get("env_kwargs") or {}
            if (rate := said.get("control_freq", RATE)) != RATE:
                raise _wrong(data, f"has env_args with control_freq {rate}; resample it to {RATE} steps per second")
            yield file, sorted(names, key=lambda name: (len(name), name))  # demo_2 before demo_10
    except (OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        said, damaged = f"{type(error).__name__}: {error}", "not a readable HDF5 file; record or download it again"
        cause = next((cause for word, cause in CAUSES.items() if word in said), damaged)
        raise InputError(f"{path}: {cause} ({brief(error)})") from None


def _wrong(item, problem):
    """The InputError that says what is wrong with a group or dataset of a file."""
    return InputError(f"{item.file.filename}: {item.name.strip('/') or 'the file'} {problem}")


def _split(file, names, demos):
    """(names to train on, names held out) of the first `demos` that the masks name, see read_clips."""
    mask = file.get("mask", {})
    masks = {key: {name.decode() for name in mask[key]} for key in ("train", "valid") if key in mask}
    for key, named in masks.items():
        if unknown := sorted(named - set(names)):
            raise _wrong(mask[key], f"names {unknown[0]!r}, and data holds no such demo; correct the mask")
    if "train" in masks:
        names = [name for name in names if name in set.union(*masks.values())]
    valid = masks.get("valid", set(names[9::10]))
    if demos is not None and demos > len(names):
        raise _wrong(file["data"], f"holds {len(names)} demos, --demos asks for {demos}; record more or take fewer")
    train = [name for name in names[:demos] if name not in valid]
    if not train:
        raise _wrong(mask, f"leaves none of {demos or len(names)} demos to train on; take more with --demos")
    return train, [name for name in names[:demos] if name in valid] or [name for name in names if name in valid][:10]


def _clip(demo, task, cameras, size, prompt):
    """One demo in memory."""
    views = _images(demo, cameras)
    N, drawn = views[0].shape[:2]
    frames = np.stack([resize(view[()], size) for view in views], axis=1)  # (N, V, H, W, 3)
    frames = np.ascontiguousarray(frames.transpose(0, 1, 4, 2, 3))
    actions = _actions(demo, N).astype(np.float32) if "actions" in demo else None
    prompt, source = _prompt(demo) if prompt is None else prompt, (demo.file.filename, demo.name.rpartition("/")[2])
    one_arm = actions is not None and actions.shape[1] == 7
    return Clip(frames, actions, prompt, task, _poses(demo, N) if one_arm else None, source, drawn)


def _poses(demo, N):
    """Hand poses (N, 10) from obs/robot0_eef_pos, robot0_eef_quat and robot0_gripper_qpos, or None."""
    keys = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    found = [demo["obs"][key] for key in keys if key in demo["obs"]]
    if [dataset.shape for dataset in found] != [(N, 3), (N, 4), (N, 2)]:
        return None  # nothing is known, or it is another kind of hand
    pos, quat, fingers = (dataset[()].astype(np.float64) for dataset in found)
    if not np.isfinite(fingers).all():
        raise _wrong(found[2], "is infinite or NaN; correct it or remove the demo")
    if not np.abs(pos).max() <= FARTHEST:  # a NaN is not
        raise _wrong(found[0], f"reaches {np.abs(pos).max():.3g}; metres are needed, below {FARTHEST}")
    if not np.abs(np.linalg.norm(quat, axis=1) - 1).max() <= 0.01:
        raise _wrong(found[1], "is no unit quaternion (x, y, z, w); normalise it")
    opening = fingers[:, :1] - fingers[:, 1:]
    return np.concatenate([pos, matrix_to_sixd(Rotation.from_quat(quat).as_matrix()), opening], axis=1)


def _images(demo, cameras):
    """The image datasets of the cameras, (N, H, W, 3), named as in the file, with or without "_image"."""
    obs, views = demo.get("obs", {}), []
    for camera in cameras:
        view = obs.get(camera, obs.get(f"{camera}_image"))  # LIBERO has agentview_rgb
        if view is None:
            known = " or ".join(_cameras(demo))
            choice = f"take {known} with --set cameras=..." if known else "there are no images"
            raise _wrong(demo, f"has no obs/{camera}_image; {choice}")
        views.append(view)
        shaped = view.dtype == np.uint8 and view.ndim == 4 and view.shape[3] == 3
        if not shaped or not 0 < len(view) == len(views[0]):
            raise _wrong(view, f"is {view.dtype} {view.shape}; uint8 (N, H, W, 3) is needed, N the same in all views")
    return views


def _cameras(demo):
    """What a demo has pictures of: {name of the camera: pixels of a side}."""
    views = {name.removesuffix("_image"): view for name, view in demo.get("obs", {}).items()}
    return {name: view.shape[1] for name, view in views.items() if getattr(view, "shape", ())[3:] == (3,)}


def _actions(demo, frames=None):
    """The actions of a demo, float (N, A), all finite; `frames`: how many there must be."""
    dataset = demo["actions"]
    if dataset.dtype.kind != "f" or dataset.ndim != 2 or not 0 < len(dataset) == (frames or len(dataset)):
        needed = f"float ({frames or 'N'}, A) is needed, one row for each frame"
        raise _wrong(dataset, f"is {dataset.dtype} {dataset.shape}; {needed}")
    actions = dataset[()]
    finite = np.isfinite(actions).all(1)
    if not finite.all():
        raise _wrong(dataset, f"is infinite or NaN at step {finite.argmin()}; correct it or remove the demo")
    return actions


def _prompt(demo):
    """The prompt of a demo: ep_meta's lang (robomimic, RoboCasa) or problem_info's language_instruction (LIBERO)."""
    places = (demo.attrs, "ep_meta", "lang"), (demo.parent.attrs, "problem_info", "language_instruction")
    for attrs, key, field in places:
        text = json.loads(attrs.get(key) or "{}").get(field) or ""
        text = " ".join(text) if isinstance(text, list) else text
        if text.strip():
            return text
    raise _wrong(demo, 'has no prompt (attribute ep_meta, field lang); give one with --set prompt="lift the cube"')
