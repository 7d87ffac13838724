"""The ablations: plans, what is kept and resumed, what the numbers say, other readouts."""

import dataclasses
import json
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

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
from ablations.protocol import ABLATIONS, PROTOCOLS, Arm, Claim, rows_of
from ablations.runs import Run
from tools import compare
from util.files import InputError

TINY = PROTOCOLS["tiny"]


def arm_of(question, label):
    return next(arm for arm in rows_of(Arm, question, TINY) if arm.label == label)


def line_of(arm, seed, count, task="T", scenes=20, **more):
    """A line of runs.jsonl: so many successes in the scenes of a task."""
    line = dict(zip(runs.FIELDS, (*arm.key, seed), strict=True)) | {"config": Run(arm, TINY, seed).config}
    return line | {"success": {task: "1" * count + "0" * (scenes - count)}, "ms_per_decision": 1.0} | more


def add(*lines, folder="results/tiny"):
    for line in lines:
        runs.add_run(folder, line)


def report(question, seeds=None):
    """The lines of a question's tables, by their first cell."""
    arms = rows_of(Arm, question, TINY)
    lines = statistics.report(question, TINY, runs.results_of(arms, runs.read_runs(TINY.results), seeds))
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_difference_is_paired_and_its_interval_widens_with_seeds_that_disagree():
    """Catches an interval that knows nothing of how much training seeds differ, and a wrong verdict."""

    def arm(*rates):
        return [{"success": {"T": "".join(str(int(i < rate * 20)) for i in range(20))}} for rate in rates]

    agreed = statistics.difference(arm(0.8, 0.8, 0.8), arm(0.5, 0.5, 0.5))
    apart = statistics.difference(arm(1.0, 0.8, 0.6), arm(0.2, 0.5, 0.8))
    assert agreed[0] == pytest.approx(0.3) and apart[0] == pytest.approx(0.3)
    assert agreed[1] > 0 and apart[2] - apart[1] > 1.5 * (agreed[2] - agreed[1])
    alike = statistics.difference(arm(0.5), arm(0.5))  # both succeed in the same scenes, and in others might not
    assert alike[0] == 0 and -0.2 < alike[1] < 0 < alike[2] < 0.2
    for interval, verdict in (((0.1, 0.3), "holds"), ((-0.3, -0.1), "does not hold"), ((-0.1, 0.2), "inconclusive"),
                              ((-0.02, 0.09), "equal within 10 points")):  # fmt: skip
        assert statistics.verdict(*interval, small=0.1) == verdict
    assert statistics.verdict(0.45, 0.6, middle=0.5) == "inconclusive"


@pytest.mark.parametrize(("seeds", "spread", "least"), [(5, 0.4, 0.92), (5, 0.8, 0.92), (10, 0.0, 0.93)])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, spread, least):
    """Catches degrees of freedom or a variance that are wrong: too short an interval decides what nobody knows, too
    long a one decides nothing.
    """
    rng = np.random.default_rng(0)

    def differences(seeds, scenes):
        """Of two arms whose scenes are partly as hard for both, (seeds, 3 tasks, scenes), each -1, 0 or 1."""
        level = np.linspace(-0.5, 1.0, 3)[None, :, None] + rng.normal(0, 1, (1, 3, scenes))

        def arm(gain):
            seed = rng.normal(0, spread, (seeds, 1, 1)) + rng.normal(0, spread / 2, (seeds, 3, 1))
            chance = expit(level + gain + seed + rng.normal(0, 0.7, (1, 3, scenes)))
            return rng.random((seeds, 3, scenes)) < chance

        return arm(0.8).astype(float) - arm(0.0)

    truth, held, widths = differences(400, 2000).mean(), [], []
    for _ in range(400):
        mean, error, freedom = statistics.mean_and_error(differences(seeds, 30))
        widths.append(statistics.student(freedom) * error)
        held.append(abs(mean - truth) <= widths[-1])
    assert least < np.mean(held) < 0.985 and np.mean(widths) < 0.3
    alike = np.random.default_rng(0).random((50, 5, 3, 30)) < 0.8
    rates = np.array([statistics.rate(success) for success in alike])
    assert (rates[:, 1] < rates[:, 0]).all() and (rates[:, 0] < rates[:, 2]).all()
    assert np.median(np.ptp(rates, axis=1)) == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 450), rel=0.4)
    some = alike[0] & (np.arange(5) < 2)[:, None, None]  # seeds that differ much
    assert np.ptp(statistics.rate(some)) > 0.6 and np.ptp(statistics.rate(some & False)) < 0.02


def test_the_auroc_is_above_chance_only_where_it_should_be():
    """Catches a measure that finds one in noise, reads a higher error as a better video, or pools what differs."""
    rng = np.random.default_rng(0)
    success = "".join(rng.permutation(list("1" * 40 + "0" * 20)))
    noise, failed = rng.random(60), np.array([1 - int(s) for s in success])

    def auroc(*errors):
        return statistics.auroc([{"success": {"T": success}, "first_video_error": {"T": list(e)}} for e in errors])

    assert auroc(noise + failed) == (1, 1, 1) and auroc(noise - failed) == (0, 0, 0)
    value, low, high = auroc(noise)
    assert low < 0.5 < high and high - low < 0.4
    assert value == pytest.approx(mannwhitneyu(noise[failed == 1], noise[failed == 0]).statistic / 800)
    assert auroc(noise, 5 + noise)[0] == pytest.approx(value)  # seeds are not compared with each other
    unknown = np.where(np.arange(60) == failed.argmax(), np.nan, noise + failed)
    assert auroc(unknown) == (1, 1, 1)
    assert statistics.auroc([{"success": {"T": "11"}, "first_video_error": {"T": [0.1, 0.2]}}]) is None


def test_the_table_compares_the_seeds_that_both_arms_have(folder):
    """Catches a claim left out of the table, made from seeds that only one arm has, or an arm with too many seeds."""
    two_stage, bc, joint = (arm_of("labels", f"{name}, all labels") for name in ("two-stage", "BC", "joint"))
    for seed in range(3):
        add(line_of(two_stage, seed, 18), line_of(bc, seed, 4))
    add(line_of(joint, 0, 4), line_of(two_stage, 3, 0))  # a fourth seed, which bc has not
    rows, claims = report("labels"), {claim.text for claim in rows_of(Claim, "labels", TINY)}
    assert claims <= {*rows} and sum("no result" in row for row in rows.values()) == len(claims) - 3
    text = "two-stage, all labels is better than BC, all labels"
    assert "| 0 to 2 | 0.90 [0.68, 0.97] / 0.20 [0.07, 0.44] | +0.70" in rows[text] and "holds" in rows[text]
    arm = rows["two-stage, all labels"]
    assert "| 0 to 3 | 0.68 [" in arm and "| 18 18 18 0 of 20 |" in arm
    assert "| 0 to 2 | 0.90 [" in report("labels", seeds=3)["two-stage, all labels"]
    assert "one seed" in rows["two-stage, all labels is better than joint, all labels"]
    add(line_of(bc, 5, 4), line_of(two_stage, 5, 13))  # neither has 4
    assert "| 0 1 2 5 |" in report("labels")[text]


def test_arms_of_a_task_each_count_as_one(folder):
    """Catches tasks that are left out of a difference, or compared with another task."""
    for task, video, without in zip(TINY.tasks.split(), (18, 10, 5), (2, 4, 3), strict=True):
        add(line_of(arm_of("watching", f"two-stage, video of {task}"), 0, video, task))
        add(line_of(arm_of("watching", f"BC, without {task}"), 0, without, task))
    row = report("watching")["two-stage, video of each task is better than BC, without each task"]
    assert "| 0 | 0.55 [" in row and "/ 0.15 [" in row and "| +0.40 [" in row


def test_the_committed_runs_are_printed_and_drawn(folder, monkeypatch, capsys):
    """Catches lines that no arm reads, a question without its figure, and a set that vanishes with the next config."""
    (folder / "results/tiny_delta").mkdir(parents=True)
    committed = (ROOT / "results/tiny_delta/runs.jsonl").read_text()
    (folder / "results/tiny_delta/runs.jsonl").write_text(committed)
    monkeypatch.setattr("sys.argv", "ablate.py --table".split())
    ablate.main()
    out = capsys.readouterr().out
    assert all(f"## {name}: " in out for name in ABLATIONS) and "results/tiny_delta: 241 runs" in out
    assert "| two-stage, 5 labels | 0 to 4 | 0.31 [0.24, 0.40] | 26 34 26 28 27 of 90 |" in out
    for name in ABLATIONS:
        assert (folder / f"results/tiny_delta/{name}.png").stat().st_size > 5000
    known = {arm.key for name in ABLATIONS for arm in rows_of(Arm, name, TINY)}
    assert {key[:-1] for key in runs.read_runs("results/tiny_delta")} <= known


def test_every_claim_is_about_arms_that_exist():
    """Catches a claim that can never be judged, for want of an arm of that name, and two arms of one name or key."""
    for protocol in PROTOCOLS.values():
        for name in ABLATIONS:
            arms = {arm.label: arm.key for arm in rows_of(Arm, name, protocol)}
            assert len(arms) == len(rows_of(Arm, name, protocol)) == len({*arms.values()}), name
            for claim in rows_of(Claim, name, protocol):
                assert {label for side in claim.sides for label in side} <= {*arms}, (name, claim)


def test_every_command_has_flags_that_exist():
    """Catches an arm whose flag or field has been renamed, found out after hours of other arms."""
    arms = [(p, arm) for p in PROTOCOLS.values() for name in ABLATIONS for arm in rows_of(Arm, name, p)]
    commands = {tuple(words) for p, arm in arms for words in Run(arm, p, 0).commands("cpu", "fp32")}
    for program, *words in commands:
        if program == "train.py":
            _, config, train_config = train.parse(words)
            assert train_config.precision == "fp32" and train_config.eval_every == 1e9
            assert (config.head.dropout == 0) == ("head.dropout=0" in words)
        elif program == "evaluate.py":
            evaluate.parse(words)
        else:
            with pytest.raises((InputError, OSError)):  # there is no policy; argparse would end the process
                readout.main(words[1:])


@pytest.mark.parametrize("name", ["demos", "labels"])
def test_a_generator_is_trained_once_and_before_it_is_loaded(name, folder):
    """Catches two processes that train the same policy, or a run that starts before what it builds on."""
    groups = runs.job_groups([Run(arm, TINY, seed) for seed in (1, 0) for arm in rows_of(Arm, name, TINY)])
    trained = [str(run.folder) for group in groups for run in {r.folder: r for r in group}.values()]
    assert len(trained) == len(set(trained))
    for group in groups:
        assert len({run.generator_run().folder for run in group}) == 1 and not group[0].arm.generator
    shared = next(group for group in groups if len(group) > 1)
    first, second, _ = shared[1].commands("cpu", "fp32")
    assert first == shared[0].commands("cpu", "fp32")[0] and "--generator" in second


def test_a_run_depends_on_all_that_made_it(folder, monkeypatch):
    """Catches numbers of one configuration made with a policy that another one trained, or in one table with it."""
    run = Run(arm_of("labels", "two-stage, all labels"), TINY, 0)
    shorter = dataclasses.replace(run, protocol=dataclasses.replace(TINY, steps=9))
    fewer = dataclasses.replace(run, protocol=dataclasses.replace(TINY, episodes=9))
    assert shorter.folder != run.folder == fewer.folder and run.config not in (shorter.config, fewer.config)
    assert runs.missing_runs([run]) == [run]
    add(line_of(run.arm, 0, 15))
    assert runs.missing_runs([run]) == []
    config, train_config = train.PRESETS["tiny"]
    monkeypatch.setitem(train.PRESETS, "tiny", (config, dataclasses.replace(train_config, lr=1.0)))
    with pytest.raises(InputError, match="another configuration"):
        runs.missing_runs([run])


def test_lines_are_added_whole_and_damage_is_named(folder):
    """Catches a line that another thread's line replaces, and a traceback for a file that was edited by hand."""
    arm, path = arm_of("labels", "two-stage, all labels"), Path("results/tiny/runs.jsonl")
    threads = [threading.Thread(target=add, args=[line_of(arm, seed, 9)]) for seed in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs.read_runs(path.parent)) == 20
    add(line_of(arm, 3, 1))  # the later line of one run counts
    assert runs.read_runs(path.parent)[*arm.key, 3]["success"] == {"T": "1" + "0" * 19}
    for damage in ("{", "{}", '{"success": 3}'):
        path.write_text(json.dumps(line_of(arm, 0, 9)) + "\n" + damage)
        with pytest.raises(InputError, match="line 2 is damaged"):
            runs.read_runs(path.parent)


def test_what_is_named_first_is_complete_first_and_nothing_is_made_twice(folder, monkeypatch):
    """Catches arms of the first question that wait for those of the last, and a failure that is not reported."""
    made = []

    def execute_run(run, *_):
        if "--method joint " in run.generator_run().arm.train:
            raise InputError("out of luck")
        made.append(run.key)
        add(line_of(run.arm, run.seed, len(made) % 20))

    monkeypatch.setattr(runs, "execute_run", execute_run)
    for data in ("demos100", "demos100_shifted"):
        Path(data).mkdir()
    monkeypatch.setattr("sys.argv", "ablate.py --only labels,shifts --seeds 2 --jobs 1 --device cpu".split())
    with pytest.raises(InputError, match="out of luck"):
        ablate.main()
    labels, shifts = ({Run(arm, TINY, seed).key for arm in rows_of(Arm, name, TINY) for seed in (0, 1)}
                      for name in ("labels", "shifts"))  # fmt: skip
    assert shifts < {*made} < labels | shifts and len(made) == len({*made}) == len(labels | shifts) - 2 * 4
    assert {*made[: len(labels) - 2 * 4]} < labels


def test_ctrl_c_ends_the_process_while_a_command_runs(monkeypatch, folder):
    """Catches a stopped ablate.py that waits hours for its trainings; they end with it (tests/faults.py)."""
    begun, ended = [], []

    def execute_run(run, *_):
        begun.append(run)
        if len(begun) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        time.sleep(0.2)

    for name, fake in (("execute_run", execute_run), ("faster_precision", lambda device: "fp32")):
        monkeypatch.setattr(runs, name, fake)
    monkeypatch.setattr(runs.os, "_exit", ended.append)
    kept = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as util.cli.command has it
    try:
        runs.execute_runs({"labels": [Run(arm, TINY, 0) for arm in rows_of(Arm, "labels", TINY)[:2]]}, 1, "cpu")
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert ended == [143]


def test_the_commands_of_a_run_and_what_is_kept_of_it(folder, monkeypatch):
    """Catches a GPU that is asked for and not used, a resumed run that starts anew, and fields that are not kept."""
    run, called = Run(arm_of("video_error", "without a shift"), TINY, 0), []

    def fake(words, **_):
        called.append(words[1:])
        run.folder.mkdir(parents=True, exist_ok=True)
        if words[1] == "train.py":
            head = "stage,step,seconds,video_psnr,video_psnr_one_step,copy_psnr,action_error\n"
            log = "video,1,2.5,,,,\nvideo,2,5.0,25,26,21,0.5\naction,1,1.0,25,26,21,0.04\n"
            (run.folder / "log.csv").write_text(head + log)
            (run.folder / "curves.png").touch()
        else:
            episodes = [{"task": "T", "success": True, "first_video_error": 0.1, "video_error": 0.2}] * 2
            found = {"timing": {"ms_per_decision": 3.0}, "episodes": episodes}
            (run.folder / run.evaluate_flags()["--out"]).write_text(json.dumps(found))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(runs.subprocess, "run", fake)
    runs.execute_run(run, "cpu", "bf16")
    assert [words[0] for words in called] == ["train.py", "-m"] and called[1][1] == "ablations.readout"
    for words in called:
        assert words[words.index("--device") + 1] == "cpu" and ("precision=bf16" in words) == (words[0] == "train.py")
    line = runs.read_runs(TINY.results)[run.key]
    assert line["success"] == {"T": "11"} and line["first_video_error"] == {"T": [0.1, 0.1]}
    assert line["train_seconds"] == 6 and line["held_out"]["action_error"] == 0.04 and line["precision"] == "bf16"
    (run.folder / "curves.png").unlink()
    (run.folder / "resume.pt").touch()
    resumed, _ = run.commands("cpu", "fp32")
    assert "--resume" in resumed and "--set" not in resumed
    monkeypatch.setattr(runs.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2, stderr="a\nno data\n"))
    with pytest.raises(InputError, match="train.py .*: no data"):
        runs.execute_run(run, "cpu", "fp32")


def test_the_command_plans_and_refuses(folder, monkeypatch, capsys):
    """Catches a plan that lacks a policy or trains it twice, quick runs among the real ones, and a traceback."""
    monkeypatch.setattr("sys.argv", "ablate.py --dry-run --only labels --seeds 2 --preset base".split())
    ablate.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("python train.py") for line in lines) == 2 * 16 == len(lines) / 2
    monkeypatch.setattr("sys.argv", "ablate.py --dry-run --only demos --quick".split())
    ablate.main()
    quick = [line for line in capsys.readouterr().out.splitlines() if "train.py" in line]
    assert quick and all("--steps 500 " in line and "--seed 0 " in line for line in quick)
    add(line_of(arm_of("demos", "two-stage, all labels"), 0, 9), folder="runs/quick/tiny")
    monkeypatch.setattr("sys.argv", "ablate.py --table --quick --only demos".split())
    ablate.main()
    assert "runs/quick/tiny: 1 runs" in capsys.readouterr().out
    for words, mention in (("--only labels,luck", "luck"), ("--only labels", "demos100: no such folder")):
        monkeypatch.setattr("sys.argv", ["ablate.py", *words.split()])
        with pytest.raises(InputError, match=mention):
            ablate.main()


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

    def success(self):
        return True


def test_the_expert_s_video_scores_and_replaces_the_generated_one(monkeypatch):
    """Catches an oracle that changes the episode, a wrong place in the expert's video, an error that a perfect video
    does not bring to 0 and "nothing moves" to 1, and a true future that never reaches the actions.
    """
    monkeypatch.setattr(readout, "expert", lambda env: iter([None] * 20))
    ours, config, env = policy(), evaluate.EvalConfig(execute=4), Scene()
    plain, *_ = evaluate.rollout(Scene(), ours, 5, config)
    scored, milliseconds, _ = readout.rollout(Scene(), ours, 5, config, oracle="score")
    fed, *_ = readout.rollout(Scene(), ours, 5, config, oracle="feed", read_sigma=0.5)
    assert (scored.task, scored.success, scored.steps) == (plain.task, plain.success, plain.steps)
    assert len(milliseconds) == 3 and fed.first_video_error != scored.first_video_error != scored.video_error
    oracle = readout.WithExpert(ours, env, 5)
    assert oracle.ahead()[:, 0, 0, 0, 0].tolist() == [8 * 20] * 3  # past its end the last frame is held
    env.reset(5)
    env.step(None)
    assert oracle.ahead()[:, 0, 0, 0, 0].tolist() == [8 * 3, 8 * 5, 8 * 7]
    frames = env.observe()[None]
    for video, error in ((oracle.ahead()[None], 0), (frames[:, None].repeat(3, 1), 1)):
        oracle.errors, oracle.policy = [], SimpleNamespace(act=lambda *_, v=video: (None, torch.as_tensor(v)))
        oracle.act(frames, ["drawer"], None)
        assert readout.normalized_mse(oracle.errors) == error
    futures = [np.full((1, 3, *Scene.size), value, np.uint8) for value in (0, 255)]
    acts = [readout.act_on(ours, frames, ["drawer"], f, 0.5, torch.Generator().manual_seed(0)) for f in futures]
    assert not torch.equal(acts[0][0], acts[1][0]) and acts[0][0].shape == (1, 5, 4)
    assert acts[0][1].shape == futures[0].shape


def test_features_are_read_at_another_noise_level():
    """Catches a noise level that has no effect, or that changes a pass at the highest level, and copied weights."""
    ours, frames = policy(), np.zeros((1, *Scene.size), np.uint8)

    def actions(policy, steps):
        return policy.act(frames, ["drawer"], torch.Generator().manual_seed(0), video_steps=steps)[0]

    lowest, other = (readout.ReadAt(ours, sigma) for sigma in (CONFIG.sigma_min, 2.0))
    assert torch.equal(actions(ours, 3), actions(lowest, 3)) and torch.equal(actions(ours, 0), actions(other, 0))
    assert not torch.equal(actions(ours, 3), actions(other, 3)) and other.head is ours.head
    episode, times, _ = readout.rollout(Scene(), ours, 5, evaluate.EvalConfig(video_steps=2), read_sigma=2.0)
    assert episode.steps == 12 and len(times) == 3 and episode.video_error is None


def test_two_policies_are_compared_scene_by_scene(tmp_path, capsys):
    """Catches episodes that are paired by their place in the file, a mean of the wrong sign, and the comparison of
    different scenes.
    """

    def result(name, successes, first=1000, order=1):
        path = tmp_path / name
        episodes = [{"task": task, "seed": first + i, "success": i in successes} for task in "TU" for i in range(20)]
        path.write_text(json.dumps({"episodes": episodes[::order]}))
        return str(path)

    ours, theirs = result("ours", range(12)), result("theirs", range(8), order=-1)
    compare.main([ours, "--against", theirs])
    of_task, _, of_both = capsys.readouterr().out.splitlines()[2:]
    assert of_task.startswith("| T | 12/20, 0.60 [") and "| 8/20, 0.40 [" in of_task
    assert of_both.startswith("| all | 24/40") and "| +0.20 [+0.07, +0.33] |" in of_both  # 8 pairs of 40 differ
    compare.main([ours, ours, "--against", theirs, ours])
    assert "| +0.10 [" in capsys.readouterr().out.splitlines()[-1]
    for others, mention in (([result("elsewhere", (), 2000)], "other scenes"), ([theirs, theirs], "pair them"),
                            ([tmp_path / "none"], "no result")):  # fmt: skip
        with pytest.raises(InputError, match=mention):
            compare.main([ours, "--against", *map(str, others)])
