"""The ablations: plans, what is kept and resumed, what the numbers say, other readouts."""

import dataclasses
import io
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from common import CONFIG, ROOT, policy
from scipy.special import expit
from scipy.stats import mannwhitneyu

import ablate
import evaluate
import train
from ablations import readout, runs, statistics
from ablations.protocol import ABLATIONS, PROTOCOLS, first_clips
from tools import compare
from training.device import seeded_generator
from util.files import InputError

TINY = PROTOCOLS["tiny"]


def arms_of(question, protocol=TINY):
    return [(group.title, arm) for group in ABLATIONS[question](protocol) for arm in group.arms]


def run_of(question, title, label, seed=0):
    return next(runs.Run(arm, TINY, seed) for place, arm in arms_of(question) if (place, arm.label) == (title, label))


def add(run, count, folder=TINY.results):
    """A line of runs.jsonl: so many successes in 20 scenes of a task."""
    line = dict(zip(runs.FIELDS, run.key, strict=True)) | {"result": str(run.result), "ms_per_decision": 1.0}
    runs.add_run(folder, line | {"success": {"T": "1" * count + "0" * (20 - count)}})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(flags):
    """The lines that ablate.py prints."""
    with mock.patch("sys.argv", ["ablate.py", *flags.split()]), redirect_stdout(io.StringIO()) as out:
        ablate.main()
    return out.getvalue().splitlines()


def test_the_difference_is_paired_and_its_interval_widens_with_seeds_that_disagree():
    """Catches an interval that knows nothing of how much training seeds differ, and a wrong verdict."""

    def arm(*rates):
        return np.arange(20) < 20 * np.array(rates)[:, None, None]

    agreed = statistics.difference(arm(0.8, 0.8, 0.8), arm(0.5, 0.5, 0.5))
    apart = statistics.difference(arm(1.0, 0.8, 0.6), arm(0.2, 0.5, 0.8))
    assert agreed[0] == pytest.approx(0.3) == apart[0]
    assert agreed[1] > 0 and apart[2] - apart[1] > 1.5 * (agreed[2] - agreed[1])
    assert -0.2 < statistics.difference(arm(0.5), arm(0.5))[1] < 0  # alike here, and in other scenes perhaps not
    verdicts = [statistics.verdict(*ends) for ends in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.2), (-0.02, 0.09))]
    assert verdicts == ["holds", "does not hold", "inconclusive", "equal within 10 points"]


@pytest.mark.parametrize(("seeds", "spread", "least"), [(5, 0.4, 0.92), (5, 0.8, 0.92), (10, 0.0, 0.93)])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, spread, least):
    """Catches wrong degrees of freedom or a wrong variance: intervals that are too short or too long."""
    rng = np.random.default_rng(0)

    def differences(seeds, scenes):
        """Of two arms whose scenes are partly as hard for both, (seeds, 3 tasks, scenes), each -1, 0 or 1."""
        level = np.linspace(-0.5, 1.0, 3)[None, :, None] + rng.normal(0, 1, (1, 3, scenes))

        def arm(gain):
            seed = rng.normal(0, spread, (seeds, 1, 1)) + rng.normal(0, spread / 2, (seeds, 3, 1))
            chance = expit(level + gain + seed + rng.normal(0, 0.7, (1, 3, scenes)))
            return rng.random((seeds, 3, scenes)) < chance

        return arm(0.8).astype(float) - arm(0.0)

    truth = differences(400, 2000).mean()
    means, errors, z = np.transpose([statistics.mean_and_error(differences(seeds, 30)) for _ in range(400)])
    assert least < np.mean(np.abs(means - truth) <= z * errors) < 0.985 and np.mean(z * errors) < 0.3
    alike = np.random.default_rng(0).random((50, 5, 3, 30)) < 0.8
    rates = np.array([statistics.rate(success) for success in alike])
    assert np.median(np.ptp(rates, axis=1)) == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 450), rel=0.4)
    assert np.ptp(statistics.rate(alike[0] & (np.arange(5) < 2)[:, None, None])) > 0.6  # seeds that differ much


def test_the_auroc_is_above_chance_only_where_it_should_be():
    """Catches a measure that finds one in noise, reads a higher error as a better video, or pools what differs."""
    rng = np.random.default_rng(0)
    success = rng.permutation(60) < 40
    noise, failed = rng.random(60), 1 - success

    def auroc(*errors):
        return statistics.auroc(np.tile(success, (len(errors), 1, 1)), np.array(errors)[:, None])

    assert auroc(noise + failed) == (1, 1, 1) and auroc(noise - failed) == (0, 0, 0)
    value, low, high = auroc(noise)
    assert high - 0.4 < low < 0.5 < high
    assert value == pytest.approx(mannwhitneyu(noise[~success], noise[success]).statistic / 800)
    assert auroc(noise, 5 + noise)[0] == pytest.approx(value)  # seeds are not compared with each other
    assert auroc(np.where(np.arange(60) == failed.argmax(), np.nan, noise + failed)) == (1, 1, 1)  # unknown
    assert statistics.auroc(np.ones((1, 1, 2), bool), np.array([[[0.1, 0.2]]])) is None


def test_every_row_of_a_group_has_the_same_seeds():
    """Catches a row with more or fewer seeds than its neighbours, one left out, and a difference of other seeds."""
    for seed in range(3):
        add(run_of("labels", "all labels, heads as trained", "two-stage", seed), 18)
        add(run_of("labels", "all labels, heads as trained", "BC", seed), 4)
    add(run_of("labels", "all labels, heads as trained", "two-stage", 3), 0)  # a fourth seed, which BC has not
    lines = printed("--table --only labels")
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert "*all labels, heads as trained; training seeds 0 1 2*" in rows
    assert "| 0.20 [0.07, 0.44] | +0.70 [" in rows["BC"] and "| holds | 0.41 (Diffusion Policy) |" in rows["BC"]
    assert "| 0.90 [" in rows["two-stage"] and "| 18 18 18 of 20 |" in rows["two-stage"]
    assert "joint" not in rows and "one seed" in "".join(printed("--table --only labels --seeds 1"))
    add(run_of("demos", "5 labels", "BC"), 4)
    add(run_of("demos", "5 labels", "two-stage without other video"), 18)  # "two-stage", the first, has no results
    assert not re.search("[+-]0[.]", "".join(printed("--table --only demos")))


def test_the_committed_runs_are_printed_and_drawn():
    """Catches lines that no arm reads, a question without its figure, and a set that vanishes with the next config."""
    known = {arm.key: arm for name in ABLATIONS for _, arm in arms_of(name)}
    rows = {"results/tiny": "| BC | 0.86 [0.78, 0.92] |", "results/tiny_bf16": "tasks, commands | 0.04 [0.02, 0.11] |"}
    for folder, row in rows.items():
        shutil.copytree(ROOT / folder, folder, ignore=shutil.ignore_patterns("*.png"))
        out = "\n".join(printed(f"--table {folder}"))
        assert all(f"## {name}: " in out for name in ABLATIONS) and row in out
        drawn = {path.stem for path in (ROOT / folder).glob("*.png")}
        assert drawn and drawn <= {path.stem for path in Path(folder).glob("*.png")}
        for key, line in runs.read_runs(folder).items():
            assert line["result"] == str(runs.Run(known[key[:-1]], TINY, key[-1]).result)


def test_every_arm_can_be_run(monkeypatch):
    """Catches two arms of one name, an arm that is compared with itself, clips that are held out of the number on an
    axis, and a flag that was renamed, found out after hours.
    """
    commands = set()
    for count in (2, 5, 10, 25, 90):
        demos = int(first_clips(count).split()[1])
        assert len(range(demos)) - len(range(demos)[9::10]) == count  # every tenth is held out
    for protocol, name in ((protocol, name) for protocol in PROTOCOLS.values() for name in ABLATIONS):
        for group in ABLATIONS[name](protocol):
            places = {(arm.label, *re.findall("--tasks .*", arm.evaluate)) for arm in group.arms}
            assert len(group.arms) == len(places) == len({arm.key for arm in group.arms}) > 1, (name, group.title)
            commands.update(*(runs.Run(arm, protocol, 0).commands("cpu", "fp32") for arm in group.arms))
    monkeypatch.setattr(readout, "run", None)
    monkeypatch.setattr(readout, "train_reader", None)
    for folder in (folder for p in PROTOCOLS.values() for folder in (p.play, p.shifted_play)):
        Path(folder).mkdir(exist_ok=True)  # train.py looks for play when it reads its flags
        Path(folder, "Task.hdf5").touch()
    for program, *words in map(str.split, commands):
        if program == "train.py":
            _, config, train_config = train.parse(words)
            assert train_config.precision == "fp32" and train_config.eval_every == 1e9
            assert (config.head.dropout == 0) == ("head.dropout=0" in words)
        elif program == "evaluate.py":
            evaluate.parse(words)
        else:
            with pytest.raises(TypeError, match="not callable"):  # argparse would end the process
                readout.main(words[1:])


def test_lines_are_added_whole_and_damage_and_other_configurations_are_named(monkeypatch):
    """Catches a line that another thread's line replaces, a traceback for a damaged one, two configurations as one."""
    made = [run_of("labels", "all labels, heads as trained", "two-stage", seed) for seed in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, made, [9] * 20))
    add(made[3], 1)  # the later line of one run counts
    lines = runs.read_runs(TINY.results)
    assert len(lines) == 20 and lines[made[3].key]["success"] == {"T": "1" + "0" * 19} and not runs.missing_runs(made)
    assert not runs.missing_runs([])  # as of a question that a protocol does not ask
    config, train_config = train.PRESETS["tiny"]
    monkeypatch.setitem(train.PRESETS, "tiny", (config, dataclasses.replace(train_config, lr=1.0)))
    fewer = dataclasses.replace(made[0], protocol=dataclasses.replace(TINY, episodes=9))
    for other in (made[0], fewer):
        with pytest.raises(InputError, match="another configuration"):
            runs.missing_runs([other])
    runs.add_run(TINY.results, {})
    with pytest.raises(InputError, match="line 22 is damaged"):
        runs.missing_runs(made)


def test_a_policy_is_trained_once_and_after_those_that_it_is_made_from(monkeypatch):
    """Catches a policy trained twice or before its generator, and a failure that goes unsaid or stops other arms."""
    trained, began = set(), []

    def run_command(command):
        words = command.split()
        if words[0] != "train.py":
            return
        began.append(folder := words[2])
        needed = {words[i + 1] for i, word in enumerate(words) if word in ("--generator", "--init", "--estimator")}
        assert needed <= trained
        if "--method joint " in command:
            raise InputError("out of luck")
        time.sleep(0.01)
        trained.add(folder)

    monkeypatch.setattr(runs, "run_command", run_command)
    monkeypatch.setattr(runs, "keep_result", lambda run: add(run, 9))
    for folder in (TINY.data, TINY.play, TINY.others):
        Path(folder).mkdir()
    with pytest.raises(InputError, match="out of luck"):
        printed("--only labels,demos,pretraining --seeds 2 --jobs 8 --device cpu")
    keys = {arm.key for name in ("labels", "demos", "pretraining") for _, arm in arms_of(name)}
    joint = {key for key in keys if "joint " in key[0] + key[1]}
    assert len(began) == len({*began}) and len(runs.read_runs(TINY.results)) == 2 * len(keys - joint) > 60


def test_the_commands_of_a_run_and_what_is_kept_of_it(monkeypatch):
    """Catches a resumed run that starts anew, a generator that is not loaded, and fields that are not kept."""
    run, called = run_of("video_error", "no shift", "generated video"), []

    def fake(words, **_):
        called.append(words[1])
        run.folder.mkdir(parents=True, exist_ok=True)
        if words[1] == "train.py":
            (run.folder / "log.csv").write_text(",".join(runs.HELD_OUT) + "\n5,6,7,0.5\n25,26,21,0.04\n")
            (run.folder / "curves.png").touch()
        else:
            episodes = [{"task": "T", "success": True, "first_video_error": 0.1}] * 2
            found = {"timing": {"ms_per_decision": 3.0}, "episodes": episodes}
            (run.folder / words[words.index("--out") + 1]).write_text(json.dumps(found))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(runs.subprocess, "run", fake)
    runs.execute_runs([run], 1, "cpu", "bf16")
    line = runs.read_runs(TINY.results)[run.key]
    assert called == ["train.py", "-m"] and line["held_out"]["action_error"] == 0.04
    assert line["success"] == {"T": "11"} and line["first_video_error"] == {"T": [0.1, 0.1]}
    (run.folder / "curves.png").unlink()
    (run.folder / "resume.pt").touch()
    resumed, _ = run.commands("cuda", "bf16")
    assert resumed == f"train.py --run {run.folder} --device cuda --resume"
    first, second, _ = run_of("demos", "5 labels", "two-stage").commands("cuda", "bf16")
    assert first == resumed and f"--generator {run.folder}" in second and "--set precision=bf16" in second
    *_, estimated, _ = run_of("demos", "5 labels, others estimated", "BC, others estimated").commands("cuda", "bf16")
    assert "--estimator runs/ablate/tiny/action-free_all_play_play120" in estimated and "--generator" in estimated
    monkeypatch.setattr(runs.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2, stderr="a\nno data\n"))
    with pytest.raises(InputError, match="train.py .*: no data"):
        runs.execute_runs([run], 1, "cpu", "fp32")


def test_the_command_plans_and_refuses():
    """Catches a plan that lacks a policy or trains it twice, quick runs among the real ones, and a traceback."""
    lines = printed("--dry-run --only labels --seeds 2 --preset base")
    assert sum(line.startswith("python train.py") for line in lines) == 2 * 16 and len(lines) == 2 * 32
    assert "train.py" in (line := printed("--dry-run --quick")[0]) and "--steps 500 --head-steps 1000 --seed 0" in line
    add(run_of("demos", "90 labels", "two-stage"), 9, folder="runs/quick/tiny")
    assert "# runs/quick/tiny: 1 runs" in printed("--table --quick --only demos")
    for flags, mention in (("--only labels,luck", "luck"), ("--only labels", "demos100: no such folder")):
        with pytest.raises(InputError, match=mention):
            printed(flags)


class Scene:
    """An environment of 12 steps in which each step makes the picture brighter; its expert needs 20."""

    task, prompt, size = SimpleNamespace(name="Made", horizon=40), "close the drawer", (2, 3, 16, 16)

    def reset(self, seed, shift="none"):
        self.timestep, self.sim = 0, SimpleNamespace(data=SimpleNamespace(qpos=np.zeros(2)))

    def step(self, action):
        self.timestep += 1
        self.sim.data.qpos = self.sim.data.qpos + 1

    def observe(self):
        return np.full(self.size, 8 * self.timestep, np.uint8)

    def ended(self):
        return self.timestep == 12

    success = ended


def test_the_expert_s_video_is_compared_with_the_generated_one_or_read(monkeypatch):
    """Catches an oracle that changes the episode, a wrong place in its video, a wrong error, one that is not read."""
    monkeypatch.setattr(readout, "expert", lambda env: iter([None] * 20))
    ours, config, env = policy(), evaluate.EvalConfig(execute=4), Scene()
    plain, *_ = evaluate.rollout(Scene(), ours, 5, config)
    scored, milliseconds, _ = readout.rollout(Scene(), ours, 5, config, oracle="score")
    fed, *_ = readout.rollout(Scene(), ours, 5, config, oracle="feed", read_sigma=0.5)
    assert (scored.task, scored.success, scored.steps) == (plain.task, plain.success, plain.steps)
    assert len(milliseconds) == 3 and scored.first_video_error > 0 and fed.first_video_error is None
    oracle = readout.Expert(env, 5, "none", ours, 0.5)
    assert oracle.video()[:, 0, 0, 0, 0].tolist() == [8 * 20] * 3  # past its end the last frame is held
    env.reset(5)
    frames, future = env.observe()[None], oracle.video()[None]
    for video, error in ((future, 0), (frames[:, None].repeat(3, 1), 1)):
        known = SimpleNamespace(config=CONFIG, act=lambda *_, v=video: (torch.zeros(1, 5, 4), torch.as_tensor(v)))
        assert readout.rollout(env, known, 5, config, oracle="score")[0].first_video_error == error
    env.reset(5)
    env.step(None)
    assert oracle.video()[:, 0, 0, 0, 0].tolist() == [8 * 3, 8 * 5, 8 * 7]
    actions = []
    for value in (0, 255):
        oracle.frames = [np.full(Scene.size, value, np.uint8)]
        actions.append(oracle.act(frames, ["drawer"], seeded_generator([0]))[0])
    assert not torch.equal(*actions) and actions[0].shape == (1, 5, 4)


def test_features_are_read_at_another_noise_level():
    """Catches a noise level that has no effect, not even a message, or that changes a pass at the highest level."""
    ours, frames = policy(), np.zeros((1, *Scene.size), np.uint8)
    readers = ours, readout.read_at(ours, CONFIG.sigma_min), readout.read_at(ours, 2.0)
    for steps, alike in ((0, True), (3, False)):
        plain, lowest, other = (p.act(frames, ["drawer"], seeded_generator([0]), video_steps=steps)[0] for p in readers)
        assert torch.equal(plain, lowest) and torch.equal(plain, other) == alike
    for flags in ("", "--oracle score --video-steps 7", "--pixels demos --video-steps 7"):
        with pytest.raises(InputError, match="no effect"):
            readout.main(f"--run R --read-sigma 2 {flags}".split())


def test_poses_are_read_from_generated_pixels(monkeypatch):
    """Catches poses at the wrong time, without the lead, and a gripper that opens because fingers hold something."""

    def seen(_, frames):  # the hand is as high as the picture is bright; its fingers hold something 3 cm wide
        poses = np.zeros((len(frames), 10))
        poses[:, 2], poses[:, 9] = frames[:, 0, 0, 0, 0], 0.03
        return poses

    monkeypatch.setattr(readout, "estimate", seen)
    video = torch.full((1, 4, 1, 3, 8, 8), 10, dtype=torch.uint8) * torch.arange(1, 5)[:, None, None, None, None]
    config = dataclasses.replace(CONFIG, action_horizon=12, pose_lead=2, video_stride=4)
    ours = SimpleNamespace(config=config, imagine=lambda *_: (video.to(torch.uint8), None))
    chunk, _ = readout.PixelReader(ours, None).act(np.zeros((1, 1, 3, 8, 8), np.uint8), ["drawer"], None)
    assert np.allclose(chunk[0, :, 2], 2.5 * (np.arange(12) + 2)) and (chunk[0, 2:, 9] == 1).all()


def test_a_reader_of_pixels_has_the_seed_and_precision_of_its_run(tmp_path, monkeypatch):
    """Catches a reader that is the same for all training seeds, and a run without --seed that cannot be read."""
    made = []
    monkeypatch.setattr(readout.VideoPolicy, "load", lambda _: SimpleNamespace(config=CONFIG))
    monkeypatch.setattr(readout, "load_clips", lambda *_: ([], []))
    monkeypatch.setattr(readout, "BlurredWindows", lambda *_: None)
    monkeypatch.setattr(readout, "make_estimator", lambda _, seed: SimpleNamespace(save=lambda path: None))
    monkeypatch.setattr(readout, "train_pose_estimator", lambda _, __, config, ___: made.append(config) or ())
    for args in ({"seed": 3, "precision": "fp32"}, {"seed": None, "precision": "bf16"}):
        (tmp_path / "args.json").write_text(json.dumps(args))
        readout.train_reader(tmp_path, None, [], tmp_path / "reader.pt")
    assert [(config.seed, config.precision) for config in made] == [(3, "fp32"), (0, "bf16")]


def test_two_policies_are_compared_scene_by_scene(tmp_path, capsys):
    """Catches episodes that are paired by their place in the file, a wrong sign, and other scenes or settings."""

    def result(name, successes, first=1000, order=1, **settings):
        episodes = [{"task": task, "seed": first + i, "success": i in successes} for task in "TU" for i in range(20)]
        protocol = {"shift": "none", "execute": 16, "seed": 0} | settings
        (tmp_path / name).write_text(json.dumps({"protocol": protocol, "episodes": episodes[::order]}))
        return str(tmp_path / name)

    ours = result("ours", range(12))
    compare.main([ours, "--against", result("theirs", range(8), order=-1)])
    of_task, _, of_both = capsys.readouterr().out.splitlines()[2:]
    assert of_task.startswith("| T | 12/20, 0.60 [") and "| 8/20, 0.40 [" in of_task
    assert of_both.startswith("| all | 24/40") and "| +0.20 [+0.07, +0.33] |" in of_both  # 8 pairs of 40 differ
    for other, mention in (
        (result("elsewhere", (), 2000), "other scenes"), ("none", "no result"), (result("long", (), execute=32), "=32"),
        (result("shifted", (), shift="all"), "shifted: has shift='all', .*ours has 'none'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=mention):
            compare.main([ours, "--against", other])
