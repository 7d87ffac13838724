"""The ablations: plans, resuming, what the numbers say."""

import dataclasses
import json
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from common import CONFIG, command, policy, write_demos
from scipy.stats import mannwhitneyu

import ablate
import evaluate
import train
from ablations import check, runs, statistics
from ablations.coverage import coverage
from ablations.flops import training_flops
from ablations.protocol import ABLATIONS, PROTOCOLS, Arm, Claim, rows_of
from ablations.runs import Run
from model.checkpoint import CheckpointError
from tools import compare
from training import color_jitter
from training.config import TrainConfig
from util.cli import InputError
from videopolicy import Config

# Of TrainConfig; precision is measured and no part of the protocol, video_share matters with --minutes only.
SAID_BY_FLAGS = ("steps", "head_steps", "minutes", "seed", "precision", "video_share", "color_jitter",
                 "action_noise_samples", "zero_terminal_snr")  # fmt: skip
DREAM = {"psnr_dream": 25.0, "psnr_one_pass": 26.0, "psnr_copy": 21.0, "action_error": 0.04}


def result(run, won, task="T", **more):
    """A finished run of so many successes in 20 scenes."""
    path = Path("results") / run.preset / "runs" / f"{run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"ms_per_decision": 1.0, "train_seconds": 2.0, "machine": {}, "won": {task: "1" * won + "0" * (20 - won)}}
    path.write_text(json.dumps(run.protocol() | told | {"dream": DREAM} | more))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_difference_is_paired_and_its_interval_widens_with_seeds_that_disagree():
    """Catches an interval that knows nothing of how much training seeds differ."""

    def arm(*rates):
        return [{"won": {"T": "".join(str(int(i < rate * 20)) for i in range(20))}} for rate in rates]

    agreed = statistics.difference(arm(0.8, 0.8, 0.8), arm(0.5, 0.5, 0.5))
    torn = statistics.difference(arm(1.0, 0.8, 0.6), arm(0.2, 0.5, 0.8))
    assert agreed[0] == pytest.approx(0.3) and torn[0] == pytest.approx(0.3)
    assert agreed[1] > 0 and torn[2] - torn[1] > 1.5 * (agreed[2] - agreed[1])
    alike = statistics.difference(arm(0.5), arm(0.5))  # the same scenes are won by both, and others might not be
    assert alike[0] == 0 and -0.2 < alike[1] < 0 < alike[2] < 0.2
    assert [statistics.verdict(*interval) for interval in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1))] == [
        "holds", "does not hold", "inconclusive",
    ]  # fmt: skip
    assert statistics.verdict(-0.02, 0.1, margin=-0.03) == "holds"  # no worse than by three points
    assert statistics.verdict(-0.05, 0.09, small=0.1) == "within 10 points"
    assert statistics.verdict(-0.05, 0.11, small=0.1) == "inconclusive"


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Catches degrees of freedom or a variance that are wrong: too short an interval decides what nobody knows, too
    long a one decides nothing.
    """
    for seeds, spread, least in ((5, 0.4, 0.92), (5, 0.8, 0.92), (10, 0.0, 0.93)):
        held, width = coverage(seeds, spread, trials=400)
        assert least < held < 0.985 and width < 0.3
    alike = np.random.default_rng(0).random((50, 5, 3, 30)) < 0.8
    found = np.array([statistics.rate(won) for won in alike])
    assert (found[:, 1] < found[:, 0]).all() and (found[:, 0] < found[:, 2]).all()
    assert np.median(np.ptp(found, axis=1)) == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 450), rel=0.4)
    won = alike[0]
    some = won & (np.arange(5) < 2)[:, None, None]  # seeds that differ much
    assert np.ptp(statistics.rate(some)) > 0.6 and np.ptp(statistics.rate(won & False)) < 0.02


def test_operations_are_counted_by_step():
    """Catches a count that forgets a stage, or the head's noisy chunks."""
    config = dataclasses.replace(TrainConfig(), steps=3, head_steps=5, cache_size=64)

    def count(method, **changes):
        return training_flops(CONFIG, dataclasses.replace(config, **changes), method)

    whole, none = count("two_stage"), count("frozen_random")
    step = count("two_stage", steps=4) - whole
    assert count("two_stage", steps=13) - whole == pytest.approx(10 * step) and step > 0
    assert whole - none == pytest.approx(3 * step)  # all that the untrained generator is spared
    assert count("two_stage", cache_size=128) > whole and count("two_stage", head_steps=6) > whole
    assert count("joint", action_noise_samples=16) > count("joint") > count("bc")


def test_the_auroc_is_found_only_where_there_is_one():
    """Catches a measure that finds one in noise, reads a higher error as a better dream, or pools what differs."""
    rng = np.random.default_rng(0)
    won = "".join(rng.permutation(list("1" * 40 + "0" * 20)))
    noise, failed = rng.random(60), np.array([1 - int(w) for w in won])

    def auroc(*errors):
        return statistics.auroc([{"won": {"T": won}, "dream_error": {"T": list(e)}} for e in errors], "dream_error")

    assert auroc(noise + failed) == (1, 1, 1) and auroc(noise - failed) == (0, 0, 0)
    value, low, high = auroc(noise)
    assert low < 0.5 < high and high - low < 0.4
    pairs = mannwhitneyu(noise[failed == 1], noise[failed == 0]).statistic
    assert value == pytest.approx(pairs / 800)
    assert auroc(noise, 5 + noise)[0] == pytest.approx(value)  # seeds are not compared with each other
    unknown = np.where(np.arange(60) == failed.argmax(), np.nan, noise + failed)
    assert auroc(unknown) == (1, 1, 1)
    assert statistics.auroc([{"won": {"T": "11"}, "dream_error": {"T": [0.1, 0.2]}}], "dream_error") is None


def test_what_makes_scenes_hard_is_held_constant():
    """Catches a dream that seems to matter because both it and success get worse where the expert has far to go."""
    rng, seeds, scenes = np.random.default_rng(0), 5, 200
    length = rng.permutation(scenes)

    def found(dream_matters):
        results = []
        for _ in range(seeds):
            error = length / scenes + rng.normal(0, 0.3, scenes)
            hard = 2 * (error if dream_matters else length / scenes) + rng.normal(0, 0.5, scenes)
            won = "".join(str(int(h < 1)) for h in hard)
            results.append({"won": {"T": won}, "expert_steps": {"T": length.tolist()},
                            "first_dream_error": {"T": error.tolist()}})  # fmt: skip
        return statistics.auroc(results, "first_dream_error")[1], statistics.partial_correlation(results)

    for dream_matters in (False, True):
        auroc_low, (value, low, high) = found(dream_matters)
        assert auroc_low > 0.6 and low < value < high
        assert high < -0.2 if dream_matters else low < 0 < high
    alike = [{"won": {"T": "11"}, "expert_steps": {"T": [3, 4]}, "first_dream_error": {"T": [0.1, 0.2]}}]
    assert statistics.partial_correlation(alike) is None


def test_arms_of_a_task_each_count_as_one(folder):
    """Catches tasks that are left out of a difference, or held against those of another."""
    tried = {arm.label: Run(arm, "tiny", 0) for arm in rows_of(Arm, "action_free", PROTOCOLS["tiny"])}
    wins = dict(zip(PROTOCOLS["tiny"].tasks.split(), ((18, 2), (10, 4), (5, 3)), strict=True))
    for task, (video, without) in wins.items():
        for label, won in ((f"two_stage, video of {task}", video), (f"bc, without {task}", without)):
            result(tried[label], won, task)
    row = runs.summarise("action_free", "tiny", 1)[0]
    assert "| 1 | 0.55 [" in row and "/ 0.15 [" in row and "| +0.40 [" in row


def test_a_stranger_can_check_a_claim(folder, monkeypatch, capsys):
    """Catches a check that compares a seed with itself, writes over what is committed, or agrees with everything."""
    arms = {arm.label: arm for arm in rows_of(Arm, "methods", PROTOCOLS["tiny"])}
    for seed in range(5):
        result(Run(arms["two_stage"], "tiny", seed), 17 + seed % 2)
        result(Run(arms["bc"], "tiny", seed), 9)
    before = {path: path.read_text() for path in Path("results").rglob("*.json")}
    Path("demos100").mkdir()
    for wins, status in ({"two_stage": 16, "bc": 9}, 0), ({"two_stage": 9, "bc": 9}, 1):
        with monkeypatch.context() as patch:
            patch.setattr(check, "execute_runs", lambda missing, *_, wins=wins: [
                result_in_scratch(run, wins[run.arm.label]) for run in missing["methods"]])  # fmt: skip
            patch.setattr(check.subprocess, "run", lambda words: SimpleNamespace(returncode=0))
            patch.setattr(runs, "POLICIES", runs.POLICIES)
            patch.setattr(runs, "RESULTS", runs.RESULTS)
            patch.setattr("sys.argv", ["check.py", "methods", "--seed", str(10 + status)])
            with pytest.raises(SystemExit) as ended:
                check.main()
        out = capsys.readouterr().out
        assert ended.value.code == status and ("OUTSIDE" in out) == bool(status) and "mean is +0.42" in out
    assert {path: path.read_text() for path in Path("results").rglob("*.json")} == before
    for words, mention in ((["horizon"], "0 of 4 seeds"), (["methods", "--seed", "3"], "one of the 5")):
        monkeypatch.setattr("sys.argv", ["check.py", *words])
        with pytest.raises(InputError, match=mention):
            check.main()


def test_what_is_named_first_is_complete_first(folder, monkeypatch):
    """Catches headline arms that wait for the last ablation that has them as well, and one that is made twice."""
    made = []
    monkeypatch.setattr(runs, "execute_run", lambda run, *_: made.append(run.name) or result(run, len(made) % 20))
    for data in ("demos100", "demos100_shifted"):
        Path(data).mkdir()
    monkeypatch.setattr("sys.argv", "ablate.py --only methods,shifts --seeds 2 --jobs 1 --device cpu".split())
    ablate.main()
    methods, shifts = ({Run(arm, "tiny", seed).name for arm in rows_of(Arm, name, PROTOCOLS["tiny"]) for seed in (0, 1)}
                       for name in ("methods", "shifts"))  # fmt: skip
    assert set(made[: len(methods)]) == methods and set(made) == methods | shifts and len(made) == len(set(made))


def test_what_was_not_begun_is_not_begun_after_ctrl_c(folder, monkeypatch):
    """Catches trainings that start after the command was stopped, and hold it up for hours."""
    begun = []

    def execute_run(run, *_):
        begun.append(run)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.3)

    monkeypatch.setattr(runs, "execute_run", execute_run)
    group = [Run(Arm("two_stage", evaluate=f"--execute {n}"), "tiny", 0) for n in (4, 8, 16)]
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background would ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            runs.execute_groups([group], 1, "cpu", "fp32", "methods")
    finally:
        signal.signal(signal.SIGINT, kept)
    assert len(begun) == 1
    children = runs.Children()
    children.stop()
    with pytest.raises(InputError):  # the second command of a run, begun while the first was stopped
        runs.call(["-c", "import time; time.sleep(60)"], children)


def result_in_scratch(run, won):
    """A finished run, where runs.RESULTS is now."""
    path = result(run, won)
    target = runs.RESULTS / run.preset / "runs" / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def test_every_claim_is_about_arms_that_exist():
    """Catches a claim that can never be judged, for want of an arm of that name, and two arms of one name."""
    for protocol in PROTOCOLS.values():
        for name in ABLATIONS:
            labels = [arm.label for arm in rows_of(Arm, name, protocol)]
            assert len(labels) == len(set(labels)), name
            for claim in rows_of(Claim, name, protocol):
                assert {label for side in claim.sides for label in side} <= set(labels), (name, claim)


@pytest.mark.parametrize("name", ["demos", "methods"])
def test_a_generator_is_trained_once_and_before_it_is_loaded(name, folder):
    """Catches two processes that train the same policy, or a run that starts before what it builds on."""
    arms = rows_of(Arm, name, PROTOCOLS["tiny"])
    groups = runs.job_groups([Run(arm, "tiny", seed) for seed in (1, 0) for arm in arms])
    trained = [str(run.folder) for group in groups for run in {r.folder: r for r in group}.values()]
    assert len(trained) == len(set(trained))
    for group in groups:
        assert len({run.generator_run().folder for run in group}) == 1
        assert not group[0].arm.generator_of or len(group) == 1
    shared = next(group for group in groups if len(group) > 1)
    first, second, _ = shared[1].commands("cpu", "fp32")
    assert first == shared[0].commands("cpu", "fp32")[0] and "--generator" in second


def test_what_is_there_is_not_run_again_and_another_protocol_is_refused(folder):
    """Catches runs made twice, and numbers of two protocols in one table."""
    run = Run(Arm("two_stage"), "tiny", 0)
    assert runs.read_result(run) is None
    path = result(run, 15, device="cuda:0", precision="fp32")
    assert runs.read_result(run)["ms_per_decision"] == 1.0
    path.write_text(path.read_text().replace("--steps", "--leaps"))
    with pytest.raises(InputError, match="another protocol"):
        runs.read_result(run)
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        runs.read_result(run)


def test_every_command_has_flags_that_are_there(folder, monkeypatch):
    """Catches an arm whose flag has been renamed in train.py or evaluate.py, found out after hours of other arms."""
    made = {
        " ".join(words): words
        for preset, protocol in PROTOCOLS.items()
        for name in ABLATIONS
        for arm in rows_of(Arm, name, protocol)
        for words in Run(arm, preset, 0).commands("cpu", "fp32")
    }
    for words in made.values():
        if words[0] == "train.py":
            train.parse(words[1:])
        else:
            monkeypatch.setattr("sys.argv", words)
            with pytest.raises(CheckpointError):  # there is no policy; argparse would have ended the process
                evaluate.main()
            flags = evaluate.parse(words[1:])
            evaluate.check_flags(flags, Config(), flags.tasks)  # ... nor flags that contradict each other


def test_the_flags_of_an_arm_replace_those_of_the_protocol():
    """Catches a flag given twice, and methods of one stage that see fewer windows than those of two."""
    arms = {arm.label: arm for arm in rows_of(Arm, "scaling", PROTOCOLS["tiny"])}
    run = Run(arms["540 demos, 2400 steps"], "tiny", 1)
    trained, tried = run.protocol()["train"], run.protocol()["evaluate"]
    for words, flag, value in ((trained, "--demos", "600"), (trained, "--steps", "2400"), (trained, "--seed", "1"),
                               (trained, "--data", "demos2000"), (tried, "--seed", "7"),
                               (tried, "--episodes", "100")):  # fmt: skip
        assert words.count(flag) == 1 and words[words.index(flag) + 1] == value
    cheapest_first = [arm.x for arm in arms.values()]
    assert cheapest_first == sorted(cheapest_first)
    flags = [Run(arm, "tiny", 0).train_flags() for arm in rows_of(Arm, "methods", PROTOCOLS["tiny"])]
    assert {flag["--steps"] for flag in flags} == {"1500"} and len(flags) == 9


def test_the_device_reaches_both_commands_and_is_no_part_of_the_protocol(folder, monkeypatch):
    """Catches a GPU that is asked for and not used, and results of two devices that cannot be compared."""
    run, called = Run(Arm("two_stage"), "tiny", 0), []

    def fake(words, children):
        called.append(words)
        run.folder.mkdir(parents=True, exist_ok=True)
        if words[0] == "train.py":
            (run.folder / "log.csv").write_text("stage,step,seconds\n0,1,2.5\n0,2,5.0\n1,1,1.0\n")
            (run.folder / "args.json").write_text(json.dumps({"precision": "bf16"}))
            (run.folder / "curves.png").touch()
        else:
            episode = {"task": "T", "success": True, "dream_error": None, "first_dream_error": None}
            found = {"timing": {"ms_per_decision": 3.0}, "protocol": {"policy": "abc"},
                     "episodes": [episode | {"seed": seed} for seed in (5, 6)]}  # fmt: skip
            (run.folder / "eval_plain.json").write_text(json.dumps(found))

    monkeypatch.setattr(runs, "call", fake)
    monkeypatch.setattr(runs, "held_out_dream", lambda run, device: DREAM)
    monkeypatch.setattr(runs, "count_flops", lambda run: 1e12)
    runs.execute_run(run, "cuda:1", "bf16", runs.Children())
    assert [words[0] for words in called] == ["train.py", "evaluate.py"]
    for words in called:
        assert words[words.index("--device") + 1] == "cuda:1" and ("--precision" in words) == (words[0] == "train.py")
    kept = runs.read_result(run)
    assert (kept["device"], kept["precision"], kept["dream"]) == ("cuda:1", "bf16", DREAM)
    assert kept["train_seconds"] == 6.0 and kept["won"] == {"T": "11"} and kept["first_scene"] == 5
    assert not {"--device", "--precision"} & {*kept["train"], *kept["evaluate"]}
    (run.folder / "curves.png").unlink()
    (run.folder / "resume.pt").touch()
    resumed, _ = run.commands("cpu", "fp32")
    assert "--resume" in resumed and resumed[-2:] == ["--device", "cpu"]


def test_dreams_are_measured_on_the_same_demos_for_every_amount_of_data(folder, monkeypatch):
    """Catches a dream that looks better because its arm, with more demos, is measured on other ones."""
    monkeypatch.setattr(runs, "DREAM_DEMOS", 20)
    Path("made").mkdir()
    write_demos(Path("made/T.hdf5"), [6] * 31, CONFIG.cameras, action_size=CONFIG.action_size)
    found = {}
    for demos in (10, 20, 31):
        run = Run(Arm("made", f"--data made --demos {demos}", "--tasks T"), "tiny", 0)
        run.folder.mkdir(parents=True)
        policy().save(run.folder / "policy.pt")
        found[demos] = runs.held_out_dream(run, "cpu")
    assert found[20] == found[31] != found[10] and found[20].keys() == DREAM.keys()


def test_the_hash_has_all_that_no_flag_says(monkeypatch):
    """Catches a field of the networks or of training that changes results and leaves their protocol as it was."""
    before = runs.config_hash("tiny")
    for holder, name in ((runs.TRAIN_PRESETS, "training"), (runs.PRESETS, "network")):
        start = holder["tiny"]
        default = start if name == "training" else Config()
        for field in dataclasses.fields(default):
            if field.name in SAID_BY_FLAGS:
                continue
            value = getattr(default, field.name)
            with monkeypatch.context() as patch:
                if name == "training":
                    patch.setitem(holder, "tiny", dataclasses.replace(start, **{field.name: other(value)}))
                else:
                    patch.setattr(runs, "Config", lambda f=field.name, v=value: altered(Config(), f, other(v)))
                assert runs.config_hash("tiny") != before, field.name
    assert runs.config_hash("tiny") == before
    monkeypatch.setattr(runs, "MATRIX_STD", 2 * color_jitter.MATRIX_STD)
    assert runs.config_hash("tiny") != before
    assert all("zero-terminal-snr" in protocol.flags for protocol in PROTOCOLS.values())


def other(value):
    """Another value of the same kind."""
    if isinstance(value, tuple):
        return (*value, value[-1])
    return value + "!" if isinstance(value, str) else not value if isinstance(value, bool) else value + 0.125


def altered(config, field, value):
    """A Config whose field has another value, not checked."""
    object.__setattr__(config, field, value)
    return config


def test_the_table_says_what_was_not_run(folder, monkeypatch, capsys):
    """Catches a claim left out of the table, or made from other seeds than those that both of its arms have."""
    methods = {arm.label: arm for arm in rows_of(Arm, "methods", PROTOCOLS["tiny"])}
    for seed in range(3):
        result(Run(methods["two_stage"], "tiny", seed), 18)
        result(Run(methods["bc"], "tiny", seed), 4)
    result(Run(methods["joint"], "tiny", 0), 4)
    result(Run(methods["two_stage"], "tiny", 3), 0)  # a fourth seed, which cloning has not
    rows = runs.summarise("methods", "tiny", 3)
    assert len(rows) == len(rows_of(Claim, "methods", PROTOCOLS["tiny"]))
    assert sum("not run" in row for row in rows) == len(rows) - 1
    cloning = next(row for row in rows if "two-stage beats behaviour cloning" in row)
    assert "| 3 | 0.90 [0.68, 0.97] / 0.20 [0.07, 0.44] | +0.70" in cloning and "holds" in cloning  # 20 scenes, not 60
    kept = json.loads((folder / "results/tiny/methods.json").read_text())
    assert set(kept["arms"]) == {"two_stage", "bc"} and np.isclose(kept["arms"]["bc"]["success"], 0.2)
    assert len(kept["arms"]["two_stage"]["seeds"]) == 4
    assert (folder / "results/tiny/methods.png").exists()
    result(Run(methods["bc"], "tiny", 3), 4)
    result(Run(methods["bc"], "tiny", 5), 4)  # and a seed that two_stage has not
    assert any("| 4 | 0.68 [" in row for row in runs.summarise("methods", "tiny", 3))
    result(Run(methods["two_stage"], "tiny", 5), 13)  # now both have it, and neither has 4
    assert any("| 5 | 0.67 [" in row for row in runs.summarise("methods", "tiny", 3))
    monkeypatch.setattr("sys.argv", "ablate.py --table --only methods".split())
    ablate.main()
    joint = next(row for row in capsys.readouterr().out.splitlines() if "two-stage beats joint |" in row)
    assert "| 1 |" in joint and joint.endswith("| one seed |")  # what is there is judged, with as few as there are


def test_a_policy_of_another_protocol_is_not_taken(folder, monkeypatch):
    """Catches numbers of one protocol made with a policy that another one trained."""
    before = Run(Arm("two_stage"), "tiny", 0).folder
    shorter = dataclasses.replace(PROTOCOLS["tiny"], steps=9)
    monkeypatch.setitem(PROTOCOLS, "tiny", shorter)
    assert Run(Arm("two_stage"), "tiny", 0).folder != before
    monkeypatch.undo()
    monkeypatch.setitem(runs.TRAIN_PRESETS, "tiny", dataclasses.replace(runs.TRAIN_PRESETS["tiny"], lr=1.0))
    assert Run(Arm("two_stage"), "tiny", 0).folder != before


def test_an_oracle_is_drawn_with_its_dreams(folder):
    """Catches the dream errors left out of the summary, and a plot that fails where an arm has none."""
    arms = {arm.label: arm for arm in rows_of(Arm, "oracle", PROTOCOLS["tiny"])}
    errors = {"T": [i / 20 for i in range(20)]}
    of_scenes = {"dream_error": errors, "first_dream_error": errors, "expert_steps": {"T": [9] * 20}}
    for label in ("dream of one pass", "expert's film"):
        result(Run(arms[label], "tiny", 0), 12, **of_scenes)
    rows = runs.summarise("oracle", "tiny", 1)
    assert "AUROC 1.00 | [1.00, 1.00]" in rows[4] and "correlation -0.85 | [-0." in rows[5] and "not run" in rows[6]
    kept = json.loads((folder / "results/tiny/oracle.json").read_text())
    assert kept["arms"]["expert's film"]["dream_error"] == 0.475
    assert (folder / "results/tiny/oracle.png").stat().st_size > 5000


def test_scaling_is_drawn_in_three_panels(folder):
    """Catches a figure that fails where arms are missing, or a set that says nothing before all of it is there."""
    for arm in rows_of(Arm, "scaling", PROTOCOLS["tiny"])[:5]:
        result(Run(arm, "tiny", 0), 12)
    rows = runs.summarise("scaling", "tiny", 1)
    assert all("not run" in row for row in rows)
    kept = json.loads((folder / "results/tiny/scaling.json").read_text())
    assert kept["arms"]["180 demos, 300 steps"]["dream"]["action_error"] == [0.04]
    assert (folder / "results/tiny/scaling.png").stat().st_size > 15000


def test_two_policies_are_compared_scene_by_scene(tmp_path, capsys):
    """Catches episodes that are paired by their place in the file, a mean of the wrong sign, and the comparison of
    what was tried in different scenes.
    """
    def tried(name, wins, first=1000, order=1):
        path = tmp_path / name
        episodes = [{"task": task, "seed": first + i, "success": i in wins} for task in "TU" for i in range(20)]
        path.write_text(json.dumps({"episodes": episodes[::order]}))
        return str(path)

    ours, theirs = tried("ours", range(12)), tried("theirs", range(8), order=-1)
    compare.main([ours, "--against", theirs])
    of_task, _, of_both = capsys.readouterr().out.splitlines()[2:]
    assert of_task.startswith("| T | 12/20, 0.60 [") and "| 8/20, 0.40 [" in of_task
    assert of_both.startswith("| all | 24/40") and "| +0.20 [+0.07, +0.33] |" in of_both  # 8 pairs of 40 differ
    compare.main([ours, ours, "--against", theirs, ours])
    assert "| +0.10 [" in capsys.readouterr().out.splitlines()[-1]
    for others, mention in (([tried("elsewhere", (), 2000)], "other scenes"), ([theirs, theirs], "pair them"),
                            ([tmp_path / "none"], "no result")):  # fmt: skip
        status, _, err = command("-m", "tools.compare", ours, "--against", *others)
        assert status == 2 and err.count("\n") == 1 and mention in err


def test_dreams_are_held_against_success(folder):
    """Catches policies that decide in another way among those compared, and a correlation with the wrong sign."""
    arms = rows_of(Arm, "scaling", PROTOCOLS["tiny"])
    assert "too few" in runs.dreams_and_success("tiny")
    for i, arm in enumerate(arms):
        dream = DREAM | {"psnr_one_pass": 22.0 + i, "action_error": 0.09 - 0.005 * i}
        result(Run(arm, "tiny", 0), 2 * i, dream=dream)
    two_stage, joint = rows_of(Arm, "methods", PROTOCOLS["tiny"])[:2]
    for i, arm in enumerate((joint, two_stage)):  # easier tasks, worse dreams: no reason to think that worse is better
        for seed in range(3):  # within an arm, the other way round: seeds do not count as so many arms
            dream = DREAM | {"psnr_one_pass": 12.0 + 3 * i - seed, "action_error": 0.5 - 0.03 * i + 0.01 * seed}
            result(Run(arm, "tiny", seed), 12 + 3 * i + seed, "U", dream=dream)
    shifted = next(arm for arm in rows_of(Arm, "shifts", PROTOCOLS["tiny"]) if "--shift" in arm.evaluate)
    result(Run(shifted, "tiny", 0), 20)
    told = runs.dreams_and_success("tiny")
    assert f"over {len(arms) + 2} arms" in told and "dream +1.00" in told and "action error -1.00" in told
    assert (folder / "results/tiny/dreams.png").stat().st_size > 5000


def test_the_command_plans_and_refuses(folder, monkeypatch, capsys):
    """Catches a plan that lacks a run, and a traceback for a name that does not exist."""
    words = "ablate.py --dry-run --only methods,shifts --seeds 2 --device cpu --preset base"
    monkeypatch.setattr("sys.argv", words.split())
    ablate.main()
    lines = capsys.readouterr().out.splitlines()
    # Of seven methods, one with color jitter and two with shifted scenes; runs that share a generator share a line.
    assert len(lines) == 2 * 10
    assert all("--device cpu" in line for line in lines)
    named = [line.split("--runs ")[1].split() for line in lines]
    assert sum(map(len, named)) == 2 * (9 + 3 * 4 + 2 * 5 + 1)
    monkeypatch.setattr("sys.argv", [*lines[0].split()[1:], "--dry-run"])
    ablate.main()
    assert capsys.readouterr().out.splitlines() == lines[:1]
    for words, mention in ((("--only", "methods,luck"), "luck"), (("--runs", "plain_seed9"), "plain_seed9")):
        status, _, err = command("ablate.py", *words)
        assert status == 2 and err.count("\n") == 1 and mention in err
