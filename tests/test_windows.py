"""Demonstration files in, training windows out: the arithmetic of a window, foreign files, damaged files."""

import fcntl
import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from common import write_demos

import util.files
from data.robomimic import find_files, read_actions, read_clips
from data.windows import Clip, HalfLabelled, Windows, statistics
from util.files import InputError

FRONT = {"cameras": ("front",), "size": 16}


def counting_clip(length, actions=True, task="A"):
    """Frame n is filled with the number n, and action n holds n: every value says where it came from."""
    frames = np.arange(length, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 2, 3, 4, 6), np.uint8)
    numbers = np.arange(length, dtype=np.float32)[:, None] * np.ones((1, 7), np.float32)
    return Clip(frames, numbers if actions else None, "do it", task)


def windows(clips, **changes):
    sizes = {"video_frames": 3, "video_stride": 4, "action_horizon": 5, "action_size": 7}
    sizes |= {"action_space": "delta"} | changes
    return Windows(clips, SimpleNamespace(**sizes))


def lengths(clips):
    return [len(clip.frames) for clip in clips]


def test_a_window_holds_the_right_frames_and_actions():
    """Catches an off-by-one: future frame t is t strides ahead, action k belongs to step k."""
    window = windows([counting_clip(30)])[10]
    assert window["current"].shape == (2, 3, 4, 6) and window["current"][0, 0, 0, 0] == 10
    assert window["future"].shape[1:] == (2, 3, 4, 6) and window["future"][:, 0, 0, 0, 0].tolist() == [14, 18, 22]
    assert window["actions"][:, 0].tolist() == [10, 11, 12, 13, 14]
    assert not window["pad"].any()


def test_past_the_end_frames_are_held_and_actions_marked():
    """Catches padding that wraps into another demo or is not marked."""
    window = windows([counting_clip(12), counting_clip(9)])[9]
    assert window["future"][:, 0, 0, 0, 0].tolist() == [11, 11, 11]
    assert window["actions"][:, 0].tolist() == [9, 10, 11, 0, 0]
    assert window["pad"].tolist() == [False, False, False, True, True]


def test_action_free_video_is_all_padding():
    """Catches zeros trained on as the actions of action-free video, and a head trained on its windows."""
    both = windows([counting_clip(5, actions=False), counting_clip(8)])
    assert both[2]["pad"].all() and len(both) == 13 and len(both.with_actions()) == 8


def test_half_of_a_batch_has_actions_where_labels_are_few():
    """Catches joint training whose batches hardly ever meet a label."""
    half = HalfLabelled(windows([counting_clip(200, actions=False), counting_clip(8)]))
    batch = [half[pair]["pad"].all() for pair in half.draw(10, [0])]
    assert not any(batch[:5]) and all(batch[5:])
    assert half.draw(10, [0]) == half.draw(10, [0]) != half.draw(10, [1])


def test_data_order_depends_on_the_key_alone():
    """Catches an ambient random generator, and steps or seeds that repeat each other's windows."""
    w = windows([counting_clip(50), counting_clip(50)])
    np.random.seed(1)
    first = w.draw(32, [0, 0, 7])
    np.random.seed(2)
    assert w.draw(32, [0, 0, 7]) == first
    assert w.draw(32, [0, 0, 8]) != first and w.draw(32, [1, 0, 7]) != first


def test_tasks_are_drawn_evenly():
    """Catches a task of long demonstrations that crowds out one of short ones."""
    w = windows([counting_clip(250, task="long"), counting_clip(10, task="short")])
    assert 0.45 < np.mean([i >= 250 for i in w.draw(2000, [0])]) < 0.55


def test_statistics_are_those_of_the_data():
    """Catches normalisation by the wrong numbers: change in [-1, 1] units of each view, and the range of actions."""
    clip = counting_clip(30)
    clip.frames[:, 1] *= 2  # a view in which everything moves twice as fast
    stats = statistics(windows([clip], video_frames=1, video_stride=2))
    expected = np.sqrt((28 * 2**2 + 1**2 + 0**2) / 30) / 127.5  # 28 windows move by 2, the last two by 1 and 0
    assert stats["change_std"].tolist() == pytest.approx([expected, 2 * expected], rel=1e-4)
    assert stats["action_low"].tolist() == [0] * 7 and stats["action_high"].tolist() == [29] * 7


def test_reads_a_foreign_robomimic_file(tmp_path):
    """Catches assumptions about our own files: names and order of cameras, frame size, masks, demo_10 before demo_2."""
    path = write_demos(tmp_path / "a.hdf5", [3 + i for i in range(12)], cameras=("agentview", "hand"), size=20)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo.move("obs/agentview_image", "obs/agentview_rgb")
    train, held_out = read_clips(path, "lift", cameras=("hand", "agentview_rgb"), size=16)
    assert lengths(train) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14] and lengths(held_out) == [12]
    assert train[0].frames.shape == (3, 2, 3, 16, 16) and train[0].frames.dtype == np.uint8
    assert train[0].prompt == "close the drawer" and train[0].actions.dtype == np.float32
    swapped, _ = read_clips(path, "lift", cameras=("agentview_rgb", "hand"), size=16)
    assert (swapped[0].frames == train[0].frames[:, ::-1]).all() and (swapped[0].frames != train[0].frames).any()
    with pytest.raises(InputError, match="no obs/front_image; take agentview_rgb or hand with --set cameras"):
        read_clips(path, "lift", **FRONT)


def test_held_out_demos_are_never_trained_on(tmp_path, capsys):
    """Catches a held-out demo in the training set, with few demos or all, labels on more demos than asked for, an empty
    mask/valid that is taken for a file without masks, a mask/train that is ignored, and a file read without a word.
    """
    path = write_demos(tmp_path / "a.hdf5", lengths=[5] * 11 + [6], masks=True)
    for demos, count in ((3, 3), (12, 11), (None, 11)):
        train, held_out = read_clips(path, "a", **FRONT, demos=demos, labelled=2)
        assert lengths(train) == [5] * count and lengths(held_out) == [6]
        assert [clip.actions is not None for clip in train] == [True] * 2 + [False] * (count - 2)
        assert held_out[0].actions is not None
    with h5py.File(path, "a") as file:
        del file["mask/valid"]
    assert lengths(read_clips(path, "a", **FRONT)[1]) == [5]  # every tenth
    with h5py.File(path, "a") as file:
        file["mask/valid"] = np.array([], dtype="S")
    assert not read_clips(path, "a", **FRONT)[1]
    with h5py.File(path, "a") as file:
        replace("mask/train", np.array([b"demo_3", b"demo_7"]))(file)
        replace("mask/valid", np.array([b"demo_11"]))(file)
        del file["data/demo_7/actions"]
    train, held_out = read_clips(path, "a", cameras=("front",), size=8)
    assert [c.source[1] for c in train + held_out] == ["demo_3", "demo_7", "demo_11"]  # nothing that no mask names
    used = "2 of 12 demos, 1 with actions, 1 held out, 9 in no mask"
    assert f"{used}, 20 frames per second, 16 x 16 pixels resized to 8 x 8\n" in capsys.readouterr().out


def test_prompt_comes_from_the_file_or_by_hand(tmp_path):
    """Catches a file without language that trains on an empty prompt, and LIBERO's place for it."""
    path = write_demos(tmp_path / "a.hdf5", prompt=None)
    with pytest.raises(InputError, match="--set prompt"):
        read_clips(path, "a", **FRONT)
    assert read_clips(path, "a", **FRONT, prompt="lift it")[0][0].prompt == "lift it"
    with h5py.File(path, "a") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": "open it"})
    assert read_clips(path, "a", **FRONT)[0][0].prompt == "open it"


def replace(name, value=None):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


IMAGES, ACTIONS = "data/demo_0/obs/front_image", "data/demo_0/actions"
BROKEN_ACTIONS = {
    "infinite action": (replace(ACTIONS, np.diag([0.0] * 4 + [np.inf] * 5)), "infinite or NaN at step 4"),
    "text for actions": (replace(ACTIONS, np.array([b"left"] * 9)), "demo_0/actions is .* float"),
    "no demos": (replace("data"), "no data/demo_N"),
}
BROKEN = BROKEN_ACTIONS | {
    "all held out": (replace("mask/valid", np.array([b"demo_0", b"demo_1", b"demo_2"])), "mask leaves none of 3 demos"),
    "unknown mask": (replace("mask/valid", np.array([b"demo_7"])), "mask/valid names 'demo_7'"),
    "float frames": (replace(IMAGES, np.zeros((9, 16, 16, 3))), "front_image is float64.* uint8"),
    "flat frames": (replace(IMAGES, np.zeros((9, 16, 16), np.uint8)), "front_image is uint8.* uint8"),
    "too few actions": (replace(ACTIONS, np.zeros((5, 7))), r"actions is .*\(9, A\) is needed"),
    "no images": (replace("data/demo_0/obs"), "no obs/front_image; there are no images"),
}


@pytest.mark.parametrize(
    "read, name",
    [(lambda path: read_clips(path, "broken", **FRONT), name) for name in BROKEN]
    + [(read_actions, name) for name in BROKEN_ACTIONS],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, read, name):
    """Catches a traceback, or silent training or replay on unusable data: each fault is a line with file and field."""
    path = write_demos(tmp_path / "broken.hdf5", masks=True)
    change, message = BROKEN[name]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_truncated_and_foreign_files(tmp_path):
    """Catches a half-copied download, a damaged image or a file of another kind that ends in a traceback."""
    path = write_demos(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        frames = file[IMAGES][:]
        del file[IMAGES]
        begin = path.stat().st_size
        file.create_dataset(IMAGES, data=frames, compression="gzip")
    whole = path.read_bytes()
    damaged = whole[:begin] + bytes(b ^ 255 for b in whole[begin:])
    for contents in (whole[: len(whole) // 2], damaged, b"not HDF5 at all", b""):
        path.write_bytes(contents)
        with pytest.raises(InputError, match="a.hdf5: not a readable HDF5 file"):
            read_clips(path, "a", **FRONT)


def test_the_cause_of_an_unreadable_file_is_named(tmp_path):
    """Catches "download it again" for a whole file: being written, of another rate, of a filter that is missing."""
    path = write_demos(tmp_path / "a.hdf5")
    with open(path) as held, pytest.raises(InputError, match="a.hdf5: another program writes to it; wait"):
        fcntl.flock(held, fcntl.LOCK_EX)
        read_clips(path, "a", **FRONT)
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 10}})
    with pytest.raises(InputError, match="a.hdf5: data has env_args with control_freq 10; resample it to 20"):
        read_clips(path, "a", **FRONT)
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20.0}})
        del file[IMAGES]
        unknown = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        unknown.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        images = file.create_dataset(IMAGES, (9, 16, 16, 3), "u1", chunks=(9, 16, 16, 3), dcpl=unknown)
        images.id.write_direct_chunk((0, 0, 0, 0), b"0")
    with pytest.raises(InputError, match="a filter that is missing here; where it is there, h5repack"):
        read_clips(path, "a", **FRONT)


def test_missing_data_says_how_to_record_it(tmp_path, capsys):
    """Catches an unhelpful message for the most common mistake, and data that lie there and are left out silently."""
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="no .hdf5 files; record demos with python -m sim.demos"):
            find_files(folder, ["all"])
    path = write_demos(tmp_path / "CloseDrawer.hdf5")
    (tmp_path / "old").mkdir()
    for name in ("part.Lift.hdf5", "._CloseDrawer.hdf5", "Lift.h5", "old/Lift.hdf5", "Lift.MOV"):
        (tmp_path / name).touch()  # the first one is left by a recorder that was killed, the second one is hidden
    with pytest.raises(InputError, match="OpenDrawer.hdf5: no such file; there are CloseDrawer; record it"):
        find_files(tmp_path, ["CloseDrawer", "OpenDrawer"])
    assert find_files(tmp_path, ["all"]) == find_files(path, ["CloseDrawer"]) == {"CloseDrawer": path}
    assert capsys.readouterr().err == f"not taken from {tmp_path}: 3 files (Lift.MOV, Lift.h5, old/Lift.hdf5)\n"


def test_too_many_demos_asked_for(tmp_path):
    """Catches silently training on fewer demos than asked for."""
    path = write_demos(tmp_path / "a.hdf5")
    with pytest.raises(InputError, match="holds 3 demos, --demos asks for 4"):
        read_clips(path, "a", **FRONT, demos=4)


def test_frames_lie_on_the_disk(tmp_path, monkeypatch):
    """Catches training that holds all frames in memory, and a traceback where the disk is full."""
    path, frames = write_demos(tmp_path / "a.hdf5"), np.zeros((90, 96, 96, 3), np.uint8)
    frames[range(90), range(90), 40] = 255
    with h5py.File(path, "a") as file:
        del file[IMAGES]
        del file["data/demo_0/actions"]
        file.create_dataset(IMAGES, data=frames, compression="gzip")
    clips, _ = read_clips(path, "a", **(FRONT | {"size": 96}))
    assert np.array_equal(clips[0].frames[:, 0].transpose(0, 2, 3, 1), frames)
    assert lengths(clips) == [90, 7, 12] and not any(c.frames.flags.owndata for c in clips)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(util.files.tempfile, "TemporaryFile", lambda dir: open("/dev/full", "wb"))
    with pytest.raises(InputError, match="/var/tmp: No space left on device; room for a copy"):
        read_clips(path, "a", **FRONT)
