"""Demonstration files in, training windows out: the arithmetic of a window, foreign files, damaged files."""

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from common import write_demos

from data.robomimic import find_files, read_actions, read_clips
from data.windows import Clip, Windows, statistics
from util.cli import InputError


def counting_clip(length, actions=True, task="A", prompt="do it"):
    """Frame n is filled with the number n, and action n holds n: whatever is read says where it came from."""
    frames = np.arange(length, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 2, 3, 4, 6), np.uint8)
    return Clip(
        frames,
        np.arange(length, dtype=np.float32)[:, None] * np.ones((1, 7), np.float32) if actions else None,
        prompt,
        task,
    )


def windows(clips, **changes):
    sizes = {"video_frames": 3, "video_stride": 4, "action_horizon": 5, "action_size": 7} | changes
    return Windows(clips, SimpleNamespace(**sizes))


def test_a_window_holds_the_right_frames_and_actions():
    """Catches an off-by-one between frames and actions: future frame t is t strides ahead, action k is the one taken
    at step k.
    """
    window = windows([counting_clip(30)])[10]
    assert window["current"].shape == (2, 3, 4, 6) and window["future"].shape == (3, 2, 3, 4, 6)
    assert window["current"][0, 0, 0, 0] == 10
    assert window["future"][:, 0, 0, 0, 0].tolist() == [14, 18, 22]
    assert window["actions"][:, 0].tolist() == [10, 11, 12, 13, 14]
    assert not window["pad"].any()


def test_past_the_end_frames_are_held_and_actions_marked():
    """Catches padding that wraps into another demo or is not marked."""
    window = windows([counting_clip(12), counting_clip(9)])[9]
    assert window["future"][:, 0, 0, 0, 0].tolist() == [11, 11, 11]
    assert window["actions"][:, 0].tolist() == [9, 10, 11, 0, 0]
    assert window["pad"].tolist() == [False, False, False, True, True]


def test_action_free_video_is_all_padding():
    """Catches a demo without actions that is trained on as if its actions were zeros; and stage 2 drawing from it."""
    both = windows([counting_clip(5, actions=False), counting_clip(8)])
    assert both[2]["pad"].all()
    assert len(both) == 13 and len(both.with_actions()) == 8


def test_data_order_depends_on_the_key_alone():
    """Catches an ambient generator in the sampler, and steps or seeds that repeat each other."""
    w = windows([counting_clip(50), counting_clip(50)])
    np.random.seed(1)
    first = w.draw(32, [0, 0, 7])
    np.random.seed(2)
    assert w.draw(32, [0, 0, 7]) == first
    assert w.draw(32, [0, 0, 8]) != first and w.draw(32, [1, 0, 7]) != first


def test_tasks_are_drawn_evenly():
    """Catches a long task that crowds out a short one."""
    w = windows([counting_clip(250, task="long"), counting_clip(10, task="short")])
    share = np.mean([i >= 250 for i in w.draw(2000, [0])])
    assert 0.45 < share < 0.55


def test_statistics_are_those_of_the_data():
    """Catches normalisation by the wrong numbers: change in [-1, 1] units of each view, and each action's range."""
    clip = counting_clip(30)
    clip.frames[:, 1] *= 2  # a view in which all moves twice as fast
    stats = statistics(windows([clip], video_frames=1, video_stride=2))
    expected = np.sqrt((28 * 2**2 + 1**2 + 0**2) / 30) / 127.5  # 28 windows move by 2, the last two by 1 and 0
    assert stats["change_std"].tolist() == pytest.approx([expected, 2 * expected], rel=1e-4)
    assert stats["action_low"].tolist() == [0] * 7 and stats["action_high"].tolist() == [29] * 7


def test_reads_a_foreign_robomimic_file(tmp_path):
    """Catches assumptions about our own files: other cameras, sizes and lengths, no masks, many demos in text
    order.
    """
    path = write_demos(
        tmp_path / "lift.hdf5", lengths=[3 + i for i in range(12)], cameras=("agentview", "robot0_eye_in_hand"), size=20
    )
    train, valid = read_clips(path, "lift", cameras=("robot0_eye_in_hand", "agentview"), size=16)
    assert [len(c.frames) for c in train] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14] and [
        len(c.frames) for c in valid
    ] == [12]
    assert train[0].frames.shape == (3, 2, 3, 16, 16) and train[0].frames.dtype == np.uint8
    assert train[0].prompt == "close the drawer"
    first, second = train[0].frames[:, 0].astype(int), train[0].frames[:, 1].astype(int)
    swapped, _ = read_clips(path, "lift", cameras=("agentview", "robot0_eye_in_hand"), size=16)
    assert (swapped[0].frames[:, 0] == second).all() and (swapped[0].frames[:, 1] == first).all()


def test_cameras_may_have_any_name(tmp_path):
    """Catches a reader that insists on our own suffix: LIBERO calls its images agentview_rgb."""
    path = write_demos(tmp_path / "a.hdf5", size=16)
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo.move("obs/front_image", "obs/agentview_rgb")
    assert len(read_clips(path, "a", cameras=("agentview_rgb",), size=16)[0]) > 0


def test_demos_takes_the_first_and_keeps_the_held_out_apart(tmp_path):
    """Catches a held-out demo in the training set."""
    path = write_demos(tmp_path / "a.hdf5", lengths=[5] * 7 + [6], masks=True)
    train, valid = read_clips(path, "a", cameras=("front",), size=16, demos=3)
    assert [len(c.frames) for c in train] == [5, 5, 5] and [len(c.frames) for c in valid] == [6]


def test_the_files_own_held_out_demos_are_never_trained_on(tmp_path):
    """Catches mask/valid ignored where only a few demos are taken."""
    path = write_demos(tmp_path / "a.hdf5", lengths=[5, 5, 5, 6], masks=True)
    train, valid = read_clips(path, "a", cameras=("front",), size=16, demos=4)
    assert [len(c.frames) for c in train] == [5, 5, 5] and [len(c.frames) for c in valid] == [6]


def test_a_file_may_say_that_nothing_is_held_out(tmp_path):
    """Catches an empty mask/valid taken for none, and demos held out that were added to be trained on."""
    path = write_demos(tmp_path / "a.hdf5", lengths=[5] * 12)
    assert len(read_clips(path, "a", cameras=("front",), size=16)[1]) == 1
    with h5py.File(path, "a") as file:
        file["mask/valid"] = np.array([], dtype="S")
    train, valid = read_clips(path, "a", cameras=("front",), size=16)
    assert len(train) == 12 and not valid


def test_prompt_comes_from_the_file_or_by_hand(tmp_path):
    """Catches a file without language that trains on an empty sentence, and LIBERO's place for it."""
    path = write_demos(tmp_path / "a.hdf5", prompt=None)
    with pytest.raises(InputError, match="--prompt"):
        read_clips(path, "a", cameras=("front",), size=16)
    assert read_clips(path, "a", cameras=("front",), size=16, prompt="lift it")[0][0].prompt == "lift it"
    with h5py.File(path, "a") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": "open it"})
    assert read_clips(path, "a", cameras=("front",), size=16)[0][0].prompt == "open it"


def _nan(f):
    f["data/demo_1/actions"][4, 2] = np.nan


def _replace(name, value):
    def change(f):
        del f[name]
        f[name] = value

    return change


def _delete(name):
    def change(f):
        del f[name]

    return change


def _huge(f):
    del f["data/demo_0/obs/front_image"]
    f.create_dataset("data/demo_0/obs/front_image", shape=(2**40, 16, 16, 3), dtype="u1", chunks=(1, 16, 16, 3))


def _hollow(f):
    del f["data/demo_0/obs/front_image"]
    f.create_dataset("data/demo_0/obs/front_image", shape=(100_000, 16, 16, 3), dtype="u1", chunks=(1, 16, 16, 3))


def _external(f):
    del f["data/demo_0/obs/front_image"]
    f["data/demo_0/obs/front_image"] = h5py.ExternalLink("/etc/hostname", "/x")


def _outside(f):
    del f["data/demo_0/actions"]
    f.create_dataset("data/demo_0/actions", (9, 7), dtype="f8", external=[("/etc/hostname", 0, 9 * 7 * 8)])


BROKEN = {
    "NaN": (_nan, "actions holds nan at step 4"),
    "absurd actions": (_replace("data/demo_0/actions", np.full((9, 7), 1e30)), "actions holds 1.0.*e\\+30 at step 0"),
    "all held out": (_replace("mask/valid", np.array([b"demo_0", b"demo_1", b"demo_2"])), "mask/valid"),
    "float frames": (_replace("data/demo_0/obs/front_image", np.zeros((9, 16, 16, 3))), "uint8"),
    "flat frames": (_replace("data/demo_0/obs/front_image", np.zeros((9, 16, 16), np.uint8)), "uint8"),
    "too few actions": (_replace("data/demo_0/actions", np.zeros((5, 7))), "actions.*one row per frame"),
    "words for actions": (_replace("data/demo_0/actions", np.array([b"left"] * 9)), "actions"),
    "no data": (_delete("data"), "data is missing"),
    "no frames": (_delete("data/demo_0/obs"), "obs is missing"),
    "no such camera": (_delete("data/demo_1/obs/front_image"), "choose --cameras"),
    "huge": (_huge, "GB"),
    "hollow": (_hollow, "stored"),
    "external link": (_external, "link"),
    "external data": (_outside, "another file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_in_one_line(tmp_path, name):
    """Catches a traceback, a crash or silent training on rubbish: each fault is one line with the file and the
    field.
    """
    path = write_demos(tmp_path / "broken.hdf5", masks=True)
    change, message = BROKEN[name]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message) as caught:
        read_clips(path, "broken", cameras=("front",), size=16)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def _endless(f):
    del f["data/demo_0/actions"]
    f.create_dataset("data/demo_0/actions", (2**40, 7), dtype="f8", chunks=(9, 7))


BROKEN_ACTIONS = {"endless": (_endless, "GB")} | {
    name: BROKEN[name] for name in ("NaN", "absurd actions", "words for actions", "no data", "external data")
}


@pytest.mark.parametrize("name", BROKEN_ACTIONS)
def test_a_replay_refuses_what_training_refuses(tmp_path, name):
    """Catches a replay of actions that were not checked."""
    path = write_demos(tmp_path / "broken.hdf5", masks=True)
    change, message = BROKEN_ACTIONS[name]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message) as caught:
        read_actions(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_and_foreign_files(tmp_path):
    """Catches a half-copied download or a file of another kind that ends in a traceback."""
    path = write_demos(tmp_path / "a.hdf5")
    whole = path.read_bytes()
    for contents in (whole[: len(whole) // 2], b"not HDF5 at all", b""):
        path.write_bytes(contents)
        with pytest.raises(InputError, match="a.hdf5"):
            read_clips(path, "a", cameras=("front",), size=16)


def test_damaged_bytes_never_end_in_a_traceback(tmp_path):
    """Catches an exception of h5py's own for a file with a few wrong bytes; such a file may also happen to be
    readable.
    """
    path = write_demos(tmp_path / "a.hdf5", lengths=(3, 3))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(min(4096, len(whole)), size=12)] = rng.integers(256, size=12)
        path.write_bytes(damaged.tobytes())
        try:
            read_clips(path, "a", cameras=("front",), size=16)
        except InputError as error:
            refused += 1
            assert "a.hdf5" in str(error)
    assert refused > 10


def test_missing_data_says_how_to_record_it(tmp_path):
    """Catches an unhelpful message for the most common mistake."""
    with pytest.raises(InputError, match="python -m sim.demos"):
        find_files(tmp_path / "nowhere", ["all"])
    with pytest.raises(InputError, match="OpenDrawer.hdf5: no such file"):
        find_files(tmp_path, ["OpenDrawer"])
    with pytest.raises(InputError, match="no .hdf5"):
        find_files(tmp_path, ["all"])


def test_too_many_demos_asked_for(tmp_path):
    """Catches silently training on fewer demos than a table says."""
    path = write_demos(tmp_path / "a.hdf5")
    with pytest.raises(InputError, match="holds 3 demos, --demos asks for 4"):
        read_clips(path, "a", cameras=("front",), size=16, demos=4)
