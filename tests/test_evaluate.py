"""Recording and evaluation, with the simulator: files that replay, episodes that repeat, results that are not lost."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import h5py
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from common import CONFIG as SMALL
from common import ROOT, command, policy

import evaluate
import sim.demos
import sim.record
import train
from data.robomimic import assemble
from sim.env import TaskEnv
from sim.experts import expert
from sim.record import EVALUATION_SEEDS, MOST_DEMOS, NOISE, PLAY_PROMPT, PLAY_STEPS, SEED_SPACING, SPARE, TRIES, record
from sim.tasks.check import open_loop_replay
from training.device import seeded_generator
from util.files import InputError
from videopolicy import VideoPolicy

CONFIG = dataclasses.replace(
    SMALL, cameras=("front",), image_size=32, video_frames=8, video_stride=4, action_horizon=32, action_size=7
)


@pytest.fixture(scope="module")
def env():
    made = TaskEnv("CloseDrawer", size=32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Three demos recorded by the command, with two workers."""
    folder = tmp_path_factory.mktemp("demos")
    status, out, err = command(*flags(folder, "--workers", "2"))
    assert status == 0, err
    assert "3 demos" in out and "failed attempts thrown away" in out
    return folder / "CloseDrawer.hdf5"


def flags(folder, *more):
    return ["-m", "sim.demos", "--tasks", "CloseDrawer", "--demos", "3", "--size", "32", "--out", folder, *more]


@pytest.fixture
def run_folder(tmp_path):
    """A run folder with an untrained policy that moves."""
    torch.manual_seed(0)
    stats = {"video_std": 0.3, "action_low": -torch.ones(7), "action_high": torch.ones(7)}
    VideoPolicy(CONFIG, ("close", "drawer", "the"), stats).save(tmp_path / "policy.pt")
    (tmp_path / "args.json").write_text(json.dumps({"trained_tasks": ["CloseDrawer"]}))
    return tmp_path


def run_here(main, monkeypatch, capsys, *words):
    """A command in this process: (exit status, stdout, stderr)."""
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    try:
        evaluate.command(main)
        status = 0
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


# ------------------------------------------------------------------- recording


def test_a_recorded_file(demos, env):
    """Catches a layout that robomimic's SequenceDataset cannot open (keys, attributes, lengths, types), noise in the
    labels, and states or seeds that do not belong to the frames.
    """
    with h5py.File(demos) as file:
        data = file["data"]
        assert json.loads(data.attrs["env_args"])["type"] == 1
        assert data.attrs["total"] == sum(data[name].attrs["num_samples"] for name in data)
        assert {name.decode() for name in file["mask/train"]} == {"demo_0", "demo_1", "demo_2"}
        for demo in data.values():
            n = demo.attrs["num_samples"]
            assert demo["obs/front_image"].shape == (n, 32, 32, 3) and demo["obs/front_image"].dtype == np.uint8
            for key in ("actions", "actions_executed"):
                assert demo[key].shape == (n, 7) and abs(demo[key][:]).max() <= 1
            disturbance = demo["actions_executed"][:] - demo["actions"][:]
            assert 0.3 * NOISE < disturbance[:, :6].std() < 1.5 * NOISE and not disturbance[:, 6].any()
            assert len(demo["states"]) == len(demo["rewards"]) == len(demo["dones"]) == n
            for key, size in (("eef_pos", 3), ("eef_quat", 4), ("gripper_qpos", 2), ("joint_pos", 7)):
                assert demo[f"obs/robot0_{key}"].shape == (n, size)
            meta = json.loads(demo.attrs["ep_meta"])
            assert meta["lang"] == "close the drawer" and meta["task"] == "CloseDrawer" and meta["seed"] < SEED_SPACING
            assert demo.attrs["model_file"].startswith("<mujoco")
        env.reset(json.loads(data["demo_1"].attrs["ep_meta"])["seed"])
        for step in (0, 20, len(data["demo_1/states"]) - 1):
            env.set_state(data["demo_1/states"][step])
            seen = env.observe()[0].transpose(1, 2, 0)
            assert np.abs(seen.astype(int) - data["demo_1/obs/front_image"][step]).max() <= 2, step


def contents(path):
    """All that an HDF5 file holds: {name: (attributes, type, shape, bytes)}."""
    found = {}

    def visit(name, item):
        values = item[()] if isinstance(item, h5py.Dataset) else np.empty(0)
        found[name] = ({k: str(v) for k, v in item.attrs.items()}, values.dtype, values.shape, values.tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_killed_and_continued_is_as_recorded_in_one_go(demos, tmp_path):
    """Catches a kill that costs demos, damages the file or changes it, and content or order that depend on which of
    several processes was faster.
    """
    parts, path = tmp_path / "CloseDrawer.parts", tmp_path / "CloseDrawer.hdf5"
    status, _, _ = command(*flags(tmp_path, "--workers", "1"), kill_when=parts / "0.hdf5")
    assert status == -signal.SIGKILL and not path.exists()
    kept = len(list(parts.glob("*.hdf5")))
    status, out, err = command(*flags(tmp_path, "--workers", "1"))
    assert status == 0 and f"going on after {kept} attempts" in out, err
    assert contents(path) == contents(demos)
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_says_that_it_can_go_on(tmp_path):
    """Catches Ctrl-C that ends in tracebacks, loses what is recorded or first records all the rest."""
    reset = ["env", "--default-signal=INT", sys.executable]  # a shell's background process would ignore Ctrl-C
    words = [*reset, *map(str, flags(tmp_path, "--demos", "50", "--workers", "1"))]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "CloseDrawer.parts/0.hdf5").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "goes on" in err.splitlines()[-1] and len(list(tmp_path.glob("CloseDrawer.parts/*.hdf5"))) < 10


def test_other_recordings_are_left_alone(demos, tmp_path, monkeypatch, capsys):
    """Catches demos of two sizes, seeds or kinds in one file, two recordings that write the same file, demos that are
    recorded over, a cut part without a clear message, and a total that leaves out what existed.
    """

    def record_here(*words):
        return run_here(sim.demos.main, monkeypatch, capsys, *words[1:])

    folder = tmp_path / "CloseDrawer.parts"
    recipe = {"task": "CloseDrawer", "demos": 3, "cameras": ["front"], "size": 32, "seed": 0, "shift": "none",
              "play": False}  # fmt: skip
    with sim.record.open_parts(folder, recipe):
        status, _, err = record_here(*flags(tmp_path))
        assert status == 2 and "another process is recording" in err and err.count("\n") == 1
    (folder / "0.hdf5").write_bytes(b"a demo")
    for change in ("--size 48", "--seed 1", "--cameras wrist", "--shift all", "--demos 4", "--play"):
        status, _, err = record_here(*flags(tmp_path, *change.split()))
        assert status == 2 and err.count("\n") == 1, change
        assert str(folder) in err and f"{change.split()[0][2:]}=" in err and "delete it" in err
    assert (folder / "0.hdf5").read_bytes() == b"a demo" and not (tmp_path / "CloseDrawer.hdf5").exists()
    with pytest.raises(InputError, match="0.hdf5: damaged; delete it"):
        assemble(tmp_path / "CloseDrawer.hdf5", [folder / "0.hdf5"], {})
    for wrong in ("--size 40", "--cameras back", "--tasks Fly"):
        assert record_here(*flags(tmp_path, *wrong.split()))[2].count("\n") == 1

    before = demos.read_bytes()
    shutil.copy(demos, tmp_path / "OpenDrawer.hdf5")
    with h5py.File(tmp_path / "OpenDrawer.hdf5", "a") as file:
        file["data"].attrs["recipe"] = json.dumps(json.loads(file["data"].attrs["recipe"]) | {"task": "OpenDrawer"})
    shutil.copy(tmp_path / "OpenDrawer.hdf5", demos.parent)
    status, out, _ = record_here(*flags(demos.parent, "--tasks", "CloseDrawer", "OpenDrawer"))
    assert status == 0 and "already there" in out
    assert re.fullmatch(r"2 tasks: 6 demos, 0.0 minutes, 0.\d MB", out.splitlines()[-1])
    status, _, err = record_here(*flags(demos.parent, "--seed", "1"))
    assert status == 2 and "seed" in err and err.count("\n") == 1 and demos.read_bytes() == before
    monkeypatch.setattr(sim.demos, "already_there", lambda *_: False)  # it is recorded a moment later
    status, _, err = record_here(*flags(demos.parent, "--seed", "1"))
    assert status == 2 and "another process has just recorded it" in err and demos.read_bytes() == before


def test_failures_are_not_kept(env, monkeypatch, tmp_path):
    """Catches a failed attempt in the file, or made again when recording goes on: an expert that does nothing gives
    no demo.
    """
    monkeypatch.setattr("sim.experts.expert", lambda env: iter(np.zeros((20, 7))))
    assert record(env, 0) is None
    flags = {"task": "CloseDrawer", "cameras": ["front"], "size": 64, "shift": "none", "play": False, "noise": 0.1}
    monkeypatch.setattr(sim.record, "shared_env", lambda *_: env)
    assert sim.record._attempt((tmp_path, 0, flags)) is None
    monkeypatch.setattr(sim.record, "shared_env", lambda *_: pytest.fail("it was made before"))
    assert sim.record._attempt((tmp_path, 0, flags)) is None


def test_demo_and_evaluation_seeds_never_meet():
    """Catches an evaluation scene that was trained on, at the largest --seed."""
    largest = EVALUATION_SEEDS // SEED_SPACING - 1
    assert TRIES * MOST_DEMOS + SPARE <= SEED_SPACING < TRIES * (MOST_DEMOS + 1) + SPARE
    assert largest * SEED_SPACING + TRIES * MOST_DEMOS + SPARE <= EVALUATION_SEEDS


def test_an_open_loop_replay_is_counted(demos, tmp_path, monkeypatch):
    """Catches a baseline that replays nothing, or demos in the scenes they were recorded in."""
    successes, line = open_loop_replay("CloseDrawer", demos.parent, episodes=2, workers=1, shift="none")
    assert successes in (0, 1, 2) and line.startswith(f"CloseDrawer: open-loop replay {successes}/2 [")
    tried = []
    monkeypatch.setattr("sim.tasks.check._run", lambda name, jobs, workers: tried.append(jobs[0][1]) or [(1, 2, 3)])
    open_loop_replay("CloseDrawer", demos.parent, episodes=1, workers=1, shift="none", seed=7)
    assert tried == [EVALUATION_SEEDS + 7 * sim.record.EPISODES_PER_SEED]  # those of evaluate.py --seed 7
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        open_loop_replay("CloseDrawer", tmp_path, episodes=2, workers=1, shift="none")


def test_play_repeats_and_has_no_task(env):
    """Catches play data that differ from run to run, that name a task, or in which the arm stands still."""
    (attributes, arrays), (_, again) = (record(env, 5, play=True) for _ in range(2))
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    meta = json.loads(attributes["ep_meta"])
    assert meta["lang"] == PLAY_PROMPT and "drawer" not in meta["lang"]
    assert len(arrays["actions"]) == PLAY_STEPS and np.array_equal(arrays["actions"], arrays["actions_executed"])
    assert np.ptp(arrays["obs/robot0_eef_pos"], axis=0).min() > 0.1 and set(arrays["actions"][:, 6]) == {-1, 1}
    _, other = record(env, 6, play=True)
    assert not np.array_equal(arrays["actions"], other["actions"])


# ------------------------------------------------------------------ evaluation


def my_rollout(env, policy, seed, config, film):
    """A caller's own rollout."""
    episode, milliseconds, pairs = evaluate.rollout(env, policy, seed, config, film)
    return dataclasses.replace(episode, task=f"my {episode.task}"), milliseconds, pairs


def test_same_weights_same_episodes(run_folder):
    """Catches an episode that depends on the number of workers, on the episodes before or on being filmed, and a
    caller's own rollout that is not used. Films must agree in every pixel.
    """
    how, path = evaluate.EvalConfig(), run_folder / "policy.pt"
    one, _, films = evaluate.evaluate(path, ["CloseDrawer"], 3, how, workers=1, films=3)
    two, _, same = evaluate.evaluate(path, ["CloseDrawer"], 3, how, workers=2, films=3)
    assert [e.seed for e in one] == [EVALUATION_SEEDS, EVALUATION_SEEDS + 1, EVALUATION_SEEDS + 2]
    assert one == two and [len(film) for film in films["CloseDrawer"]] == [e.steps // 4 for e in one]
    for a, b in zip(films["CloseDrawer"], same["CloseDrawer"], strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(films["CloseDrawer"][0][-1], films["CloseDrawer"][1][-1])
    mine, _, none = evaluate.evaluate(path, ["CloseDrawer"], 1, how, films=0, rollout=my_rollout)
    assert mine == [dataclasses.replace(one[0], task="my CloseDrawer")] and not none
    with pytest.raises(InputError, match="changed during the evaluation"):
        evaluate.evaluate(path, ["CloseDrawer"], 1, how, expected="another")


def test_an_episode(run_folder, env, monkeypatch):
    """Catches a policy whose input or randomness depends on a film, --execute ignored, a video out of step with the
    observation beside it, and a success that is missed: driven by the expert's actions an episode must stop there.
    """
    policy, ends = VideoPolicy.load(run_folder / "policy.pt"), []
    for film in (False, True):
        evaluate.rollout(env, policy, EVALUATION_SEEDS + 7, evaluate.EvalConfig(), film)
        ends.append(env.state())
    assert np.array_equal(*ends)
    for execute in (8, 32, None):  # half a chunk of commands
        episode, times, _ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(execute=execute))
        assert episode.steps == env.task.horizon and len(times) == -(-env.task.horizon // (execute or 16))
    *_, film = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(), film=True)
    env.reset(EVALUATION_SEEDS)
    _, video = policy.act(env.observe()[None], [env.prompt], seeded_generator([EVALUATION_SEEDS, 0]))
    assert np.array_equal(film[0][1], video[0, 0].numpy()) and np.array_equal(film[3][1], video[0, 3].numpy())

    def act(frames, *_):
        act.expert = getattr(act, "expert", None) or expert(env)
        return torch.tensor(next(act.expert))[None, None], torch.zeros(1, 1, 1, 3, 2, 2)

    monkeypatch.setattr(policy, "act", act)
    episode, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(execute=1))
    assert episode.success and episode.steps < env.task.horizon


def test_the_command_writes_every_episode_and_protects_results(run_folder):
    """Catches a result file that lacks an episode or the total, a film that shows nothing, and a result that another
    protocol writes over.
    """
    words = ["evaluate.py", "--run", run_folder, "--episodes", "2", "--workers", "1"]
    status, out, err = command(*words, "--tasks", "CloseDrawer", "TurnSinkSpout")
    assert status == 0 and "not trained on TurnSinkSpout" in err, err
    result = json.loads((run_folder / "eval_none.json").read_text())
    assert [set(episode) for episode in result["episodes"]] == [{"task", "seed", "success", "steps"}] * 4
    assert [(row["task"], row["episodes"]) for row in result["summary"]] == [
        ("CloseDrawer", 2), ("TurnSinkSpout", 2), ("all", 4)
    ]  # fmt: skip
    assert all(row["low"] <= row["success"] / row["episodes"] <= row["high"] for row in result["summary"])
    assert out.count("95 % interval") == 3 and (run_folder / "CloseDrawer_none_0.gif").stat().st_size > 1000
    frames = imageio.mimread(run_folder / "tasks_none.webp")
    assert frames[0].shape[:2] == (2 * 32 + 6, 2 * (32 + 6))
    assert np.ptp(np.stack(frames).astype(int), axis=0).max() > 50
    before = (run_folder / "eval_none.json").read_bytes()
    status, _, err = command(*words, "--tasks", "CloseDrawer", "TurnSinkSpout", "--execute", "8")
    assert status == 2 and "eval_none.json" in err and "execute=16" in err
    assert (run_folder / "eval_none.json").read_bytes() == before


def test_two_evaluations_cannot_lose_a_result(run_folder, monkeypatch, capsys):
    """Catches a second evaluation into the same file that works for hours and then replaces the first one's result."""
    words = ["evaluate.py", "--run", run_folder, "--workers", "1"]

    def work(*_, **__):  # the episodes of the first one, while the second one starts
        status, _, err = run_here(evaluate.main, monkeypatch, capsys, *words)
        assert status == 2 and "eval_none.json: another process" in err and err.count("\n") == 1
        return [evaluate.Episode("T", 1, True, 9)], [1.0], {}

    monkeypatch.setattr(evaluate, "evaluate", work)
    assert run_here(evaluate.main, monkeypatch, capsys, *words)[0] == 0
    assert json.loads((run_folder / "eval_none.json").read_text())["summary"][0]["success"] == 1
    assert {path.name for path in run_folder.iterdir()} == {"policy.pt", "args.json", "eval_none.json"}


@pytest.mark.parametrize(
    ("words", "mention"),
    [
        ("--tasks FlyDrone", "FlyDrone"), ("--execute 99", "--execute"), ("--episodes 0", "--episodes"),
        ("--shift weather", "--shift"), ("--guidance 3", "--guidance"), ("--prompt wrong", "--prompt"),
        ("--device fridge", "--device"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(words, mention, run_folder, monkeypatch, capsys):
    """Catches a traceback for a wrong flag."""
    words = ["evaluate.py", "--run", run_folder, *words.split()]
    status, _, err = run_here(evaluate.main, monkeypatch, capsys, *words)
    assert status == 2 and mention in err and err.count("\n") == 1


def test_a_home_folder_is_found_after_an_equals_sign(monkeypatch):
    """Catches a folder named "~" in the working directory: bash replaces ~ in `--run ~/x` and not in `--run=~/x`."""
    monkeypatch.setenv("HOME", "/home/me")
    args, *_ = train.parse(["--run=~/x", "--data=~/my demos"])
    assert [str(path) for path in (args.run, args.data)] == ["/home/me/x", "/home/me/my demos"]


def test_a_policy_for_another_robot_is_refused(tmp_path, monkeypatch, capsys):
    """Catches a traceback out of a worker for a policy whose actions or cameras the simulator does not have."""
    policy().save(tmp_path / "policy.pt")
    status, _, err = run_here(evaluate.main, monkeypatch, capsys, "evaluate.py", "--run", tmp_path)
    assert status == 2 and "does not fit the simulator" in err and err.count("\n") == 1


def test_the_shipped_policy_acts(tmp_path):
    """Catches a checkpoint in the repository that this code no longer loads, whose flags are gone, or that fails."""
    shipped = tmp_path / "faucet"
    shutil.copytree(ROOT / "checkpoints" / "faucet", shipped)
    words = ("--run", shipped, "--episodes", "4", "--workers", "1", "--films", "0", "--seed", "7")
    status, _, err = command("evaluate.py", *words)
    assert status == 0, err
    episodes = json.loads((shipped / "eval_none.json").read_text())["episodes"]
    assert sum(episode["success"] for episode in episodes) >= 3
