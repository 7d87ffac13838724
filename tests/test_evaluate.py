"""Recording and evaluation, with the simulator: files that replay, episodes that repeat, results that are not
lost.
"""

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import h5py
import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from common import ROOT, batch, command, policy

import evaluate
import sim.demos
import sim.record
from data.robomimic import assemble
from model.checkpoint import CheckpointError
from sim.env import TaskEnv
from sim.experts import expert
from sim.oracle import ReactingExpert, record_expert
from sim.record import EVALUATION_SEEDS, NOISE, PLAY_PROMPT, PLAY_STEPS, SEED_SPACING, attempts, record
from sim.tasks.check import open_loop_replay
from tools import corrections, peer, seventeen, ship
from training.device import seeded_generator
from util.files import InputError
from videopolicy import Config, VideoPolicy

CONFIG = Config(image_size=32, widths=(32, 32), attention=(False, True), embed=16, squeeze=2, head_width=16)


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


# ------------------------------------------------------------------- recording


def test_the_file_is_robomimics(demos):
    """Catches a layout that robomimic's SequenceDataset cannot open: its keys, attributes, lengths and types."""
    with h5py.File(demos) as file:
        data = file["data"]
        assert json.loads(data.attrs["env_args"])["type"] == 1
        assert data.attrs["total"] == sum(data[name].attrs["num_samples"] for name in data)
        assert {name.decode() for name in file["mask/train"]} == {"demo_0", "demo_1", "demo_2"}
        for name in data:
            demo, n = data[name], data[name].attrs["num_samples"]
            assert demo["obs/front_image"].shape == (n, 32, 32, 3) and demo["obs/front_image"].dtype == np.uint8
            for key in ("actions", "actions_executed"):
                assert demo[key].shape == (n, 7) and abs(demo[key][:]).max() <= 1
            assert len(demo["states"]) == len(demo["rewards"]) == len(demo["dones"]) == n
            for key, size in (("eef_pos", 3), ("eef_quat", 4), ("gripper_qpos", 2), ("joint_pos", 7)):
                assert demo[f"obs/robot0_{key}"].shape == (n, size)
            meta = json.loads(demo.attrs["ep_meta"])
            assert meta["lang"] == "close the drawer" and meta["task"] == "CloseDrawer" and meta["seed"] < SEED_SPACING
            assert demo.attrs["model_file"].startswith("<mujoco")


def test_a_demo_replays(demos, env):
    """Catches states or seeds that do not belong to the frames: put back into a stored state, the camera sees the
    stored frame.
    """
    with h5py.File(demos) as file:
        demo = file["data/demo_1"]
        env.reset(json.loads(demo.attrs["ep_meta"])["seed"])
        for step in (0, 20, len(demo["states"]) - 1):
            env.set_state(demo["states"][step])
            seen = env.observe()[0].transpose(1, 2, 0)
            assert np.abs(seen.astype(int) - demo["obs/front_image"][step]).max() <= 2, step


def test_the_expert_is_disturbed_and_its_own_action_is_stored(demos):
    """Catches noise in the labels, or none in what was done: they must differ, in the arm only, by about the noise."""
    with h5py.File(demos) as file:
        for demo in file["data"].values():
            wander = demo["actions_executed"][:] - demo["actions"][:]
            assert 0.3 * NOISE < wander[:, :6].std() < 1.5 * NOISE and not wander[:, 6].any()


def everything(path):
    """All that an HDF5 file says: {name: (attributes, type, shape, bytes)}."""
    found = {}

    def look(name, item):
        values = item[()] if isinstance(item, h5py.Dataset) else np.empty(0)
        found[name] = ({k: str(v) for k, v in item.attrs.items()}, values.dtype, values.shape, values.tobytes())

    with h5py.File(path) as file:
        file.visititems(look)
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
    assert everything(path) == everything(demos)
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_says_that_it_can_go_on(tmp_path):
    """Catches Ctrl-C that ends in tracebacks, loses what is recorded or first records all the rest."""
    # In a shell's background Ctrl-C is ignored by all that is started there, unless it is said otherwise.
    heard = ["env", "--default-signal=INT", sys.executable]
    words = [*heard, *map(str, flags(tmp_path, "--demos", "50", "--workers", "1"))]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "CloseDrawer.parts/0.hdf5").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "goes on" in err.splitlines()[-1] and len(list(tmp_path.glob("CloseDrawer.parts/*.hdf5"))) < 10


def record_here(monkeypatch, capsys, *words):
    """The command in this process: (exit status, stdout, stderr)."""
    monkeypatch.setattr("sys.argv", [str(word) for word in words[1:]])
    try:
        sim.demos.command(sim.demos.main)
        status = 0
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


def test_parts_of_another_recipe_and_of_another_process_are_left_alone(tmp_path, monkeypatch, capsys):
    """Catches demos of two sizes or seeds in one file, and two recordings that write the same file."""
    folder = tmp_path / "CloseDrawer.parts"
    recipe = {"task": "CloseDrawer", "demos": 3, "cameras": ["front"], "size": 32, "seed": 0, "shift": "none",
              "play": False}  # fmt: skip
    with sim.record.open_parts(folder, recipe):
        status, _, err = record_here(monkeypatch, capsys, *flags(tmp_path))
        assert status == 2 and "another process is recording" in err and err.count("\n") == 1
    (folder / "0.hdf5").write_bytes(b"a demo")
    for change in ("--size 48", "--seed 1", "--cameras wrist", "--shift all", "--demos 4", "--play"):
        status, _, err = record_here(monkeypatch, capsys, *flags(tmp_path, *change.split()))
        assert status == 2 and err.count("\n") == 1, change
        assert str(folder) in err and f"{change.split()[0][2:]}=" in err and "delete it" in err
    assert (folder / "0.hdf5").read_bytes() == b"a demo"
    (folder / "recipe.json").write_text("{")
    assert record_here(monkeypatch, capsys, *flags(tmp_path))[0] == 2
    assert not (tmp_path / "CloseDrawer.hdf5").exists()


def test_a_damaged_part_is_named(tmp_path):
    """Catches a traceback for a cut part, or a file without its demo."""
    part = tmp_path / "7.hdf5"
    for contents in (b"cut", b""):
        part.write_bytes(contents)
        with pytest.raises(evaluate.InputError, match="7.hdf5: damaged; delete it"):
            assemble(tmp_path / "CloseDrawer.hdf5", [part], {})
    assert list(tmp_path.iterdir()) == [part]


def test_several_tasks_end_with_the_total(demos, tmp_path, monkeypatch, capsys):
    """Catches a total that leaves out what was there before."""
    for task in ("CloseDrawer", "OpenDrawer"):
        path = shutil.copy(demos, tmp_path / f"{task}.hdf5")
        with h5py.File(path, "a") as file:
            recipe = json.loads(file["data"].attrs["recipe"])
            file["data"].attrs["recipe"] = json.dumps(recipe | {"task": task})
    status, out, _ = record_here(monkeypatch, capsys, *flags(tmp_path, "--tasks", "CloseDrawer", "OpenDrawer"))
    assert status == 0 and re.fullmatch(r"2 tasks: 6 demos, 0.0 minutes, 0.\d MB", out.splitlines()[-1])


def test_recording_again_keeps_the_file_and_another_recipe_is_refused(demos):
    """Catches demos that are recorded over."""
    before = demos.read_bytes()
    status, out, _ = command(*flags(demos.parent))
    assert status == 0 and "already there" in out
    status, _, err = command(*flags(demos.parent, "--seed", "1"))
    assert status == 2 and "seed" in err and err.count("\n") == 1
    assert demos.read_bytes() == before


def test_play_is_not_taken_for_demonstrations(tmp_path):
    """Catches random motion in place of an expert's, and the other way round."""
    path = tmp_path / "CloseDrawer.hdf5"
    for there in (True, False):
        with h5py.File(path, "w") as file:
            file.create_group("data").attrs["recipe"] = json.dumps({"task": "CloseDrawer", "play": there})
        assert sim.record.already_there(path, {"task": "CloseDrawer", "play": there})
        with pytest.raises(evaluate.InputError, match="play="):
            sim.record.already_there(path, {"task": "CloseDrawer", "play": not there})


def test_failures_are_not_kept(env, monkeypatch, tmp_path):
    """Catches a failed attempt in the file, or made again when recording goes on: an expert that does nothing gives
    no demo.
    """
    monkeypatch.setattr("sim.experts.expert", lambda env: iter(np.zeros((20, 7))))
    assert record(env, 0) is None
    flags = {"task": "CloseDrawer", "cameras": ["front"], "size": 64, "shift": "none", "play": False}
    monkeypatch.setattr(sim.record, "shared_env", lambda *_: env)
    assert sim.record._attempt((tmp_path, 0, flags)) is None
    monkeypatch.setattr(sim.record, "shared_env", lambda *_: pytest.fail("it was made before"))
    assert sim.record._attempt((tmp_path, 0, flags)) is None


def test_demo_and_evaluation_seeds_never_meet():
    """Catches an evaluation scene that was trained on, at the largest --seed."""
    parser_top = EVALUATION_SEEDS // SEED_SPACING - 1
    most = next(n for n in range(20_000, 0, -1) if attempts(n) <= SEED_SPACING)
    assert parser_top * SEED_SPACING + attempts(most) <= EVALUATION_SEEDS


def test_an_open_loop_replay_is_counted(demos, tmp_path, monkeypatch):
    """Catches a baseline that replays nothing, or demos in the scenes they were recorded in."""
    won, line = open_loop_replay("CloseDrawer", demos.parent, episodes=2, workers=1, shift="none")
    assert won in (0, 1, 2) and line.startswith(f"CloseDrawer: open-loop replay {won}/2 [")
    tried = []
    monkeypatch.setattr("sim.tasks.check._run", lambda name, jobs, workers: tried.append(jobs[0][1]) or [(1, 2, 3)])
    open_loop_replay("CloseDrawer", demos.parent, episodes=1, workers=1, shift="none", seed=7)
    assert tried == [EVALUATION_SEEDS + 7 * sim.record.EPISODES_PER_SEED]  # those of evaluate.py --seed 7
    with pytest.raises(evaluate.InputError, match="no demonstrations"):
        open_loop_replay("CloseDrawer", tmp_path, episodes=2, workers=1, shift="none")


def test_play_repeats_and_knows_of_no_task(env):
    """Catches play that differs from run to run, that names a task, that stands still, or that only ever wins."""
    (attributes, arrays), (_, again) = (record(env, 5, play=True) for _ in range(2))
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    meta = json.loads(attributes["ep_meta"])
    assert meta["lang"] == PLAY_PROMPT and "drawer" not in meta["lang"]
    assert len(arrays["actions"]) == PLAY_STEPS and np.array_equal(arrays["actions"], arrays["actions_executed"])
    assert np.ptp(arrays["obs/robot0_eef_pos"], axis=0).min() > 0.1 and set(arrays["actions"][:, 6]) == {-1, 1}
    _, other = record(env, 6, play=True)
    assert not np.array_equal(arrays["actions"], other["actions"])


def test_the_wrong_sentence_is_that_of_the_other_choice():
    """Catches a wrong prompt that is the right one, and one for a task whose prompt never changes."""
    env = TaskEnv("TurnSinkSpout", size=16)
    for seed in range(4):
        env.reset(seed)
        (other,) = env.other_prompts
        assert {env.prompt, other} == {f"turn the sink spout to the {side}" for side in ("left", "right")}
    env.close()
    env = TaskEnv("CloseDrawer", size=16)
    env.reset(0)
    assert env.other_prompts == []
    env.close()


def test_where_a_policy_fails_the_expert_takes_over(demos, env, run_folder, tmp_path, monkeypatch):
    """Catches demonstrations of recovery that start where every other one does or in a scene of evaluation, that do not
    reach the goal, that are held out or put what is held out into training, and a file that is lost or mixed.
    """
    data = tmp_path / "corrected"
    data.mkdir()
    path = Path(shutil.copy(demos, data))
    with h5py.File(path, "a") as file:
        del file["mask"]
        file["mask/train"], file["mask/valid"] = np.array(["demo_0", "demo_2"], "S"), np.array(["demo_1"], "S")
    argv = ["corrections", "--run", run_folder, "--data", data, "--tasks", "CloseDrawer", "--demos", "2"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in argv])
    corrections.main()
    with h5py.File(path) as file, h5py.File(demos) as old:
        assert set(file["data"]) == {f"demo_{i}" for i in range(5)}
        assert np.array_equal(file["data/demo_1/obs/front_image"], old["data/demo_1/obs/front_image"])
        assert set(file["mask/train"][:]) == {b"demo_0", b"demo_2", b"demo_3", b"demo_4"}
        assert list(file["mask/valid"]) == [b"demo_1"]
        assert file["data"].attrs["total"] == sum(len(demo["actions"]) for demo in file["data"].values())
        for name in ("demo_3", "demo_4"):
            demo = file["data"][name]
            seed = json.loads(demo.attrs["ep_meta"])["seed"]
            assert 2 * SEED_SPACING <= seed < EVALUATION_SEEDS
            env.reset(seed)
            assert not np.allclose(env.state(), demo["states"][0], atol=0.05)
            env.set_state(demo["states"][0])
            for action in demo["actions_executed"][:]:
                env.step(action)
            assert env.success()
    with pytest.raises(InputError, match="already"):
        corrections.main()
    kept = Path(shutil.copy(demos, data)).read_bytes()
    monkeypatch.setattr(corrections, "record", lambda env, seed, before: None)
    with pytest.raises(InputError, match="nothing to add"):
        corrections.main()
    assert path.read_bytes() == kept
    with pytest.raises(InputError, match="other cameras"):
        corrections.check(path, dataclasses.replace(CONFIG, image_size=64))


# ------------------------------------------------------------------ evaluation


def test_same_weights_same_episodes(run_folder):
    """Catches a path that depends on the number of workers or on the episodes before: films must agree in every
    pixel.
    """
    how = evaluate.EvalConfig()
    path = run_folder / "policy.pt"
    one, _, films = evaluate.evaluate(path, ["CloseDrawer"], 3, how, workers=1, films=3)
    two, _, same = evaluate.evaluate(path, ["CloseDrawer"], 3, how, workers=2, films=3)
    assert [e.seed for e in one] == [EVALUATION_SEEDS, EVALUATION_SEEDS + 1, EVALUATION_SEEDS + 2]
    assert one == two
    for a, b in zip(films["CloseDrawer"], same["CloseDrawer"], strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(films["CloseDrawer"][0][-1], films["CloseDrawer"][1][-1])


def test_filming_changes_nothing(run_folder, env):
    """Catches a policy whose input or randomness depends on whether a film is made: the simulator must end in the
    same state.
    """
    policy = VideoPolicy.load(run_folder / "policy.pt")
    ends = []
    for film in (False, True):
        evaluate.rollout(env, policy, EVALUATION_SEEDS + 7, evaluate.EvalConfig(), film)
        ends.append(env.state())
    assert np.array_equal(*ends)


def test_the_plan_is_executed_in_parts(run_folder, env):
    """Catches --execute ignored: half as many actions per decision take twice as many decisions."""
    policy = VideoPolicy.load(run_folder / "policy.pt")
    horizon = env.task.horizon
    for execute in (8, 16, 32):
        episode, times, _ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(execute=execute))
        assert episode.steps == horizon and len(times) == -(-horizon // execute)


def test_a_film_shows_each_dreamed_step_once(run_folder, env):
    """Catches dream and reality out of step: with stride 4 and 16 actions executed, a frame at 0, 4, 8, ... and no
    more.
    """
    policy = VideoPolicy.load(run_folder / "policy.pt")
    episode, _, film = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(), film=True)
    assert len(film) == episode.steps // 4
    env.reset(EVALUATION_SEEDS)
    _, first = policy.act(env.observe()[None], [env.prompt], seeded_generator([EVALUATION_SEEDS, 0]))
    *_, film = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(), film=True, passes=None)
    assert np.array_equal(film[0][1], first[0, 0].numpy())  # by which it decided, and no other sample


def test_the_expert_is_scored_by_the_same_success(env, monkeypatch, run_folder):
    """Catches a rollout that misses success: driven by the expert's actions, it must report it, and stop there."""
    policy = VideoPolicy.load(run_folder / "policy.pt")

    def act(frames, *_, **how):
        act.expert = getattr(act, "expert", None) or expert(env)
        return torch.tensor(next(act.expert))[None, None], torch.zeros(1, 1, 1, 3, 2, 2)

    monkeypatch.setattr(policy, "act", act)
    episode, _, _ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(execute=1))
    assert episode.success and episode.steps < env.task.horizon


def test_the_truth_is_what_the_expert_will_see_next(env):
    """Catches a true future that starts elsewhere than where the robot is, runs at another pace, or wraps around."""
    truth = record_expert(env, EVALUATION_SEEDS)
    assert env.success()
    env.reset(EVALUATION_SEEDS)
    assert np.array_equal(truth.ahead(env, 3, 4), truth.frames[[4, 8, 12]])
    seen = [env.observe()]
    for step, action in enumerate(expert(env), start=1):
        env.step(action)
        seen.append(env.observe())
        if step == 10:
            assert np.array_equal(truth.ahead(env, 2, 4), truth.frames[[14, 18]])
    assert np.array_equal(np.stack(seen), truth.frames)
    assert np.array_equal(truth.ahead(env, 2, 4), truth.frames[[-1, -1]])


def test_an_expert_that_reacts_starts_from_where_the_robot_is(env):
    """Catches a film of another state, one whose making moves the robot, and one that is not of the expert's motion."""
    oracle = ReactingExpert(env, EVALUATION_SEEDS)
    env.reset(EVALUATION_SEEDS)
    for action in islice(expert(env), 12):
        env.step(action)
    before, seen = env.state(), env.observe()
    film = oracle.ahead(env, 3, 4)
    assert np.array_equal(env.state(), before) and np.array_equal(env.observe(), seen)
    assert np.array_equal(film, oracle.ahead(env, 3, 4)) and film.shape == (3, *seen.shape)
    for action in islice(expert(env), 4):
        env.step(action)
    nearer = np.abs(film[0].astype(int) - env.observe()).mean(), np.abs(film[0].astype(int) - seen).mean()
    assert nearer[0] < 0.7 * nearer[1]
    oracle.close()


def test_dreams_are_held_against_the_truth(run_folder, env, monkeypatch):
    """Catches an oracle that changes the episode by looking on, a dream error that a perfect dream does not bring to
    0 and "nothing moves" to 1, and a true future that never reaches the policy.
    """
    policy = VideoPolicy.load(run_folder / "policy.pt")
    plain, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig())
    scored, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(oracle="score"))
    of_oracle = {"dream_error": None, "first_dream_error": None, "expert_steps": None}
    assert plain.dream_error is None and dataclasses.replace(scored, **of_oracle) == plain
    assert 40 < scored.expert_steps < env.task.horizon
    fed, act = [], policy.act

    def remember(frames, prompts, rng, video_steps, guidance, read_sigma, future):
        fed.append(future)
        actions, _ = act(frames, prompts, rng, video_steps, guidance, read_sigma, future)
        still = np.repeat(frames[:, None], policy.config.video_frames, axis=1)
        return actions, torch.from_numpy(still if future is None else future)

    monkeypatch.setattr(policy, "act", remember)
    told, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(oracle="feed"))
    assert told.dream_error == told.first_dream_error == 0 and all(f.shape == (1, 8, 1, 3, 32, 32) for f in fed)
    still, *_ = evaluate.rollout(env, policy, EVALUATION_SEEDS, evaluate.EvalConfig(oracle="score"))
    assert still.dream_error == still.first_dream_error == 1


def test_the_command_writes_every_episode_and_protects_results(run_folder):
    """Catches a result file that lacks what was promised, or that another protocol writes over."""
    words = ["evaluate.py", "--run", run_folder, "--episodes", "2", "--workers", "1"]
    status, out, err = command(*words)
    assert status == 0, err
    result = json.loads((run_folder / "eval_none.json").read_text())
    assert [set(e) for e in result["episodes"]] == [
        {"task", "seed", "success", "steps", "dream_error", "first_dream_error", "expert_steps"}
    ] * 2
    assert result["summary"][0]["low"] <= result["summary"][0]["success"] / 2 <= result["summary"][0]["high"]
    assert "95 % interval" in out and (run_folder / "CloseDrawer_none_0.gif").stat().st_size > 1000
    before = (run_folder / "eval_none.json").read_bytes()
    status, _, err = command(*words, "--execute", "8")
    assert status == 2 and "execute" in err and err.count("\n") == 1
    assert (run_folder / "eval_none.json").read_bytes() == before


class Code:
    """What a hostile checkpoint would hold."""

    def __reduce__(self):
        return print, ("this ran",)


FILES = {
    "missing": None,
    "truncated": lambda whole: whole[: len(whole) // 2],
    "foreign": lambda whole: b"not a checkpoint",
    "empty": lambda whole: b"",
}


@pytest.mark.parametrize("name", FILES)
def test_a_policy_file_that_is_none(name, run_folder):
    """Catches a traceback for a missing, cut or foreign policy.pt."""
    path = run_folder / "policy.pt"
    whole = path.read_bytes()
    path.unlink()
    if FILES[name]:
        path.write_bytes(FILES[name](whole))
    with pytest.raises(CheckpointError, match="policy.pt") as caught:
        VideoPolicy.load(path)
    assert "\n" not in str(caught.value)


def test_a_policy_file_with_code_or_another_shape(run_folder, capsys):
    """Catches a checkpoint that runs code when it is loaded, and weights that do not fit their config."""
    path = run_folder / "policy.pt"
    contents = torch.load(path, weights_only=True)
    torch.save({"format": Code()}, path)
    with pytest.raises(CheckpointError, match="code"):
        VideoPolicy.load(path)
    assert "this ran" not in capsys.readouterr().out
    for field, value in (
        ("image_size", 36),
        ("patch", 0),
        ("sigma_max", "x"),
        ("widths", [32, 64]),
        ("widths", [32, 50]),
        ("colour", "red"),
        ("video_frames", "many"),
    ):
        torch.save(contents | {"config": contents["config"] | {field: value}}, path)
        with pytest.raises(CheckpointError, match="do not fit"):
            VideoPolicy.load(path)
    spoiled = contents["weights"] | {"head.out.bias": contents["weights"]["head.out.bias"] * float("nan")}
    torch.save(contents | {"weights": spoiled}, path)
    with pytest.raises(CheckpointError, match="NaN"):
        VideoPolicy.load(path)
    torch.save(contents | {"format": "other"}, path)
    with pytest.raises(CheckpointError, match="format"):
        VideoPolicy.load(path)


def test_a_policy_for_another_robot_is_refused(run_folder, monkeypatch, capsys):
    """Catches a traceback out of a worker for a policy whose actions or cameras the simulator does not have."""
    stats = {"video_std": 0.3, "action_low": -torch.ones(4), "action_high": torch.ones(4)}
    for field, value in (("action_size", 4), ("cameras", ("agentview",))):
        config = dataclasses.replace(CONFIG, **{field: value})
        wide = (
            stats
            if field == "action_size"
            else {k: v if k == "video_std" else v[:1].repeat(7) for k, v in stats.items()}
        )
        VideoPolicy(config, ("close",), wide).save(run_folder / "policy.pt")
        monkeypatch.setattr("sys.argv", ["evaluate.py", "--run", str(run_folder)])
        with pytest.raises(SystemExit):
            evaluate.command(evaluate.main)
        assert f"field {field}" in capsys.readouterr().err


MISTAKES = {
    "unknown task": (["--tasks", "FlyDrone"], "FlyDrone"),
    "more than a chunk": (["--execute", "99"], "--execute"),
    "no episodes": (["--episodes", "0"], "--episodes"),
    "unknown shift": (["--shift", "weather"], "--shift"),
    "a level beyond the noise": (["--video-steps", "3", "--read-sigma", "99"], "--read-sigma"),
    "a level without steps": (["--read-sigma", "1"], "--video-steps"),
    "guidance of nothing": (["--guidance", "3"], "--guidance"),
    "a film under noise alone": (["--oracle", "feed", "--read-sigma", "20"], "--read-sigma"),
    "an oracle and a dream": (["--oracle", "feed", "--video-steps", "3"], "--video-steps"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_line(name, run_folder, monkeypatch, capsys):
    """Catches a traceback for a wrong flag."""
    more, mention = MISTAKES[name]
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--run", str(run_folder), *more])
    with pytest.raises(SystemExit) as caught:
        evaluate.command(evaluate.main)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and mention in err and err.count("\n") == 1


def test_the_shipped_policy_acts(tmp_path):
    """Catches a checkpoint in the repository that this code no longer loads, whose flags are gone, or that fails."""
    shipped = tmp_path / "faucet"
    shutil.copytree(ROOT / "checkpoints" / "faucet", shipped)
    words = ("--run", shipped, "--episodes", "4", "--workers", "1", "--films", "0", "--seed", "7")
    status, _, err = command("evaluate.py", *words)
    assert status == 0, err
    episodes = json.loads((shipped / "eval_none.json").read_text())["episodes"]
    assert sum(episode["success"] for episode in episodes) >= 3  # 91 of 100 such scenes
    assert not VideoPolicy.load(shipped / "policy.pt").config.zero_terminal_snr  # as it was trained, in a file without


def test_a_small_copy_decides_alike(tmp_path, capsys, monkeypatch):
    """Catches half precision that reaches the statistics of actions, and a copy over a folder that is there."""
    whole = policy()
    (tmp_path / "run").mkdir()
    whole.save(tmp_path / "run" / "policy.pt")
    (tmp_path / "run" / "args.json").write_text("{}")
    words = ["ship.py", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "small")]
    monkeypatch.setattr("sys.argv", words)
    ship.main()
    small = VideoPolicy.load(tmp_path / "small" / "policy.pt")
    assert (tmp_path / "small" / "policy.pt").stat().st_size < 0.7 * (tmp_path / "run" / "policy.pt").stat().st_size
    given = batch()
    there, here = (p.act(given.current, given.prompts, torch.Generator().manual_seed(0))[0] for p in (whole, small))
    assert torch.allclose(there, here, atol=0.02) and not torch.equal(there, here)
    assert torch.equal(whole.action_low, small.action_low)
    with pytest.raises(evaluate.InputError, match="--out"):
        ship.main()


def test_the_seventeen_are_tried_where_that_is_missing(run_folder, monkeypatch, tmp_path):
    """Catches a tool that measures twice what it has, takes another policy's numbers for its own, or films nothing."""
    monkeypatch.setattr(seventeen, "EPISODES", 2)
    out, gif = tmp_path / "all.json", tmp_path / "all.gif"
    words = ["seventeen.py", "--run", run_folder, "--out", out, "--tasks", "CloseDrawer", "--workers", "1"]

    def tool(*more):
        monkeypatch.setattr(sys, "argv", [*map(str, words), *map(str, more)])
        seventeen.main()

    tool("--only", "one policy")
    found = json.loads(out.read_text())
    assert found["wins"]["one policy"]["CloseDrawer"] in (0, 1, 2) and out.with_suffix(".png").exists()
    monkeypatch.setattr(seventeen, "measure", lambda *_: pytest.fail("this was measured before"))
    tool("--only", "one policy")
    found["policy"] = "another"
    out.write_text(json.dumps(found))
    with pytest.raises(evaluate.InputError, match="policy='another'"):
        tool("--table")
    seventeen.plot({"the wrong sentence": {"CloseDrawer": 1}, seventeen.REPLAY: {"OpenDrawer": 1}}, tmp_path / "p.png")
    tool("--film", gif)
    frames = imageio.mimread(gif)
    assert len(frames) > 5 and np.ptp(np.stack(frames).astype(int), axis=0).max() > 50


def test_the_peer_pairs_what_is_seen_with_what_is_done(demos):
    """Catches chunks that begin a step off what lerobot takes them for, and padding that is taken for actions."""
    read = peer.read_demos(demos, 32, 3)
    frames, felt, _ = read[0]
    assert frames.shape[1:] == (3, 32, 32) and felt.shape == (len(frames), 9)
    steps = np.arange(len(frames), dtype=float)[:, None].repeat(7, axis=1)
    counted = [(steps[:, :1, None, None].astype(np.uint8).repeat(3, axis=1), felt, steps)]  # frame and action n are n
    normalizer = peer.LinearNormalizer(steps)
    made = peer.batch_of(counted, [(0, 0), (0, 5), (0, len(steps) - 1)], None, normalizer, np.random.default_rng(0))
    seen = ((made["observation.images.front"][:, :, 0, 0, 0] + 1) * 127.5).round()  # (B, 2)
    done = normalizer.unnormalize(made["action"])[:, :, 0].round()  # (B, K)
    assert {tuple(pair) for pair in seen.tolist()} <= {(0, 0), (4, 5), (len(steps) - 2, len(steps) - 1)}
    assert torch.equal(done[:, 1], seen[:, 1])
    assert torch.equal(made["action_is_pad"][:, 0], seen[:, 1] == 0)
    assert made["action_is_pad"][seen[:, 1] == len(steps) - 1][:, 2:].all()


def test_the_peer_says_in_a_line_what_it_lacks(tmp_path):
    """Catches a traceback where lerobot, which is no requirement, is not installed."""
    if importlib.util.find_spec("lerobot"):
        pytest.skip("lerobot is installed")
    status, _, err = command("-m", "tools.peer", "--data", tmp_path, "--run", tmp_path / "run")
    assert status == 2 and "pip install lerobot" in err and "Traceback" not in err
