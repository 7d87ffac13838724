"""Learning by watching: what an estimator sees becomes the label of a clip, and nothing else does."""

import h5py
import numpy as np
import pytest
from common import write_demos
from test_train import log, refused, resume, same, weights
from test_train import run as train_on
from test_videos import write_video

import training.run
from model.pose_estimator import PoseEstimator

FEW = ("estimator_steps=3", "estimator_batch=4")
WATCH, ALL = "--tasks Known --action-free Watched", "--action-free all"
POSE = ["obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos"]


@pytest.fixture
def files(tmp_path):
    """A folder with data/Known, data/Watched and play/Play, .hdf5, of more cameras and pixels than the policy sees."""
    for name in ("data/Known", "data/Watched", "play/Play"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cameras, prompt = ("agentview", "hand"), "play with it" if "play" in name else "close the drawer"
        write_demos(tmp_path / f"{name}.hdf5", [12] * 4, cameras, 32, prompt, masks=True, poses=True)
    return tmp_path


def run(files, name, *words, play=True):
    """Train on `files` in the run folder of a name -> the policy."""
    given = ["--play", files / "play"] * play
    return train_on(files / "data", files / name, *FEW, *given, *(w for word in words for w in str(word).split()))


def change(path, name, to):
    """Replace a dataset of every demo of a file by to(values), or by nothing."""
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            values = to(demo[name][()])
            del demo[name]
            if values is not None:
                demo[name] = values


def labels(folder):
    return [*dict(np.load(folder / "labels.npz")).values()]


def alike(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def test_what_the_robot_did_in_a_watched_clip_never_reaches_the_weights(files, capsys):
    """Catches a leak: true actions, poses or fingers of watched demonstrations, training or held-out, that reach the
    estimator, the statistics, a loss or a measure. The error report alone has them: there the noise is seen.
    """
    rng, runs, reports = np.random.default_rng(0), [], []
    for name in ("before", "after", "known"):
        runs.append(weights(run(files, name, WATCH)))
        reports.append([line for line in capsys.readouterr().out.splitlines() if "labels of" in line])
        path = files / f"data/{'Known' if name == 'after' else 'Watched'}.hdf5"
        for noisy in ("actions", *POSE):
            change(path, noisy, lambda v: (x := rng.normal(size=v.shape)) / np.linalg.norm(x, axis=1, keepdims=True))
    before, after = (log(files / name, "position_mm", "action_error") for name in ("before", "after"))
    assert same(runs[0], runs[1]) and before == after and not same(runs[1], runs[2])
    assert len(reports[0]) == 1 and reports[0] != reports[1]


@pytest.mark.parametrize(("stage", "step", "kill"), [("pose_estimator", 2, 0), ("video", 1, 1), ("video", 2, 0)])
def test_a_run_that_was_stopped_ends_with_the_same_weights(stage, step, kill, files, monkeypatch):
    """Catches an estimator that begins again, or is lost by a kill between resume.pt and its own file."""
    whole, look = run(files, "whole", WATCH), training.run.Watch.look

    def stopped(self, row):
        look(self, row)
        if (row["stage"], row["step"]) == (stage, step):
            self.state.stop = 15
            monkeypatch.setattr(training.run, "save", lambda *_: None) if kill else None

    monkeypatch.setattr(training.run.Watch, "look", stopped)
    with pytest.raises(SystemExit):
        run(files, "cut", WATCH)
    monkeypatch.undo()
    (files / "cut/pose_estimator.pt").unlink() if kill else (files / "cut/labels.npz").unlink(missing_ok=True)
    cut = resume(files / "cut")
    assert same(weights(whole), weights(cut)) and alike(labels(files / "cut"), labels(files / "whole"))
    columns = ("stage", "step", "pose", "video")
    assert log(files / "cut", *columns) == log(files / "whole", *columns)


def test_all_ways_to_watch(files):
    """Catches flags that label the wrong clips or none; an --estimator that leads to another policy."""
    for name, words, count in (("some", "--labelled 1", 4), ("bc", f"--method bc {WATCH}", 3), ("all", ALL, 6)):
        c = (made := run(files, name, words)).config
        assert (c.action_space, c.action_size, c.image_size, c.drawn_size) == ("pose", 10, 16, 32)
        assert len(labels(files / name)) == count and all(np.isfinite(x).all() for x in labels(files / name)), name
    again = run(files, "again", f"{ALL} --estimator", files / "all", play=False)
    assert same(weights(again), weights(made)) and alike(labels(files / "all"), labels(files / "again"))
    assert "pose_estimator" not in {stage for (stage,) in log(files / "again", "stage")}
    assert PoseEstimator.load(files / "again/pose_estimator.pt").config["cameras"] == ["agentview", "hand"]


def test_play_that_trains_the_head_is_not_shown_to_the_generator(files):
    """Catches watching=head that learns to generate play, even by its statistics, or whose head does not learn it."""
    made = [run(files, "before", ALL, "--set watching=head")]
    change(files / "play/Play.hdf5", "obs/agentview_image", lambda v: 255 - v // 2)
    made += [run(files, "after", ALL, "--set watching=head")]
    parts = [[weights(p, *names) for p in made] for names in (("generator", "prompt_encoder", "video_std"), ("head",))]
    assert same(*parts[0]) and not same(*parts[1])
    assert not {"labels.npz", "pose_estimator.pt"} & {path.name for path in (files / "after").iterdir()}


def test_a_folder_of_mp4_files_is_enough_to_watch(files):
    """Catches an outsider's videos that are refused, or not labelled, where there is no demonstration beside them."""
    (files / "clips").mkdir()
    for i in range(2):
        write_video(files / f"clips/{i}.mp4", 20)
    for path in (files / "data").iterdir():
        path.unlink()
    made = run(files, "mp4", "--tasks --videos", files / "clips")
    assert made.config.action_space == "pose" and [x.shape for x in labels(files / "mp4")] == [(20, 10)] * 2


@pytest.mark.parametrize(("words", "path", "name", "to", "mention"), [
    ("", "data/Known", POSE[0], lambda v: 1000 * v, "metres are needed"),
    ("", "data/Known", POSE[1], lambda v: 1.02 * v, "no unit quaternion"),
    ("", "play/Play", POSE[2], lambda v: None, "has no hand poses"),
    ("watching=head", "play/Play", POSE[2], lambda v: None, "has no hand poses"),
    ("", "data/Known", POSE[2], lambda v: None, "has no hand poses"),
    ("", "play/Play", "obs/hand_image", lambda v: None, "record both alike"),
    ("", "play/Play", "obs/hand_image", lambda v: v[:, ::2, ::2], "record both alike"),
    ("", "", "", None, "nothing to label"), ("--estimator r", "", "", None, "leave one out"),
    ("watching=eyes", "", "", None, "labels or head"), ("action_space=delta", "", "", None, "only hand poses"),
    ("watching=head --method joint", "", "", None, "watching=head: estimates"),
])  # fmt: skip
def test_mistakes_get_one_line(words, path, name, to, mention, files, capsys):
    """Catches a traceback, or silent training on poses in other units, pictures that are not alike, play as video."""
    if path:
        change(files / f"{path}.hdf5", name, to)
    given = ["--data", files / "data", "--run", files / "run", "--play", files / "play"]
    given += ["--steps", "1", "--head-steps", "1", *["--action-free", "Watched"] * (mention != "nothing to label")]
    refused(capsys, [*given, "--set", "cameras=agentview", "image_size=16", *FEW, *words.split()], mention)
