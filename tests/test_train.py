"""The training loop: what each stage trains, resuming, several processes, the command line."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from common import CONFIG, batch, command, policy, write_demos

import train
from ablations.protocol import PROTOCOLS, method_flags
from data.robomimic import read_clips
from data.windows import Clip, HalfLabelled, Windows
from training.batches import batches
from training.color_jitter import color_jitter
from training.device import seeded_generator
from training.distributed import average_gradients
from training.feature_cache import cache_features
from training.noise import draw_noise
from training.optimizers import Muon, make_optimizers, orthogonalize
from training.run_folder import TrainState, restore, save
from training.setup import config_from_args
from util.cli import command as as_command
from videopolicy import VideoPolicy, collate

HOW = train.TrainConfig(steps=4, head_steps=4, batch_size=4, cache_size=24, head_batch=4)


def made_windows(config=CONFIG):
    rng = np.random.default_rng(0)
    shape = (10, len(config.cameras), 3, config.image_size, config.image_size)
    clips = [
        Clip(
            rng.integers(256, size=shape, dtype=np.uint8),
            rng.random((10, config.action_size), np.float32),
            "open the drawer",
            "A",
        )
        for _ in range(3)
    ]
    return Windows(clips, config)


def run_stages(p, state=None, stop_after=None, **changes):
    """Train p in two stages; returns the rows. stop_after leaves the loop after so many rows, as a kill would."""
    rows = []
    config = dataclasses.replace(HOW, **changes)
    loop = train.train_two_stage(p, made_windows(), config, state or TrainState())
    for row in loop:
        rows.append(row)
        if len(rows) == stop_after:
            break
    return rows


def weights(p, part=""):
    return {k: v.clone() for k, v in p.state_dict().items() if k.startswith(part)}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_stage_one_trains_the_generator_and_stage_two_the_head():
    """Catches the paper's sentence broken: stage 1 must leave the head alone, stage 2 the frozen generator, bit for
    bit.
    """
    p, state = policy(), TrainState()
    start = weights(p)
    run_stages(p, state, stop_after=5)  # 4 steps of stage 1, and the row that ends it
    middle = weights(p)
    assert same({k: start[k] for k in start if k.startswith("head")}, middle)
    assert not same({k: start[k] for k in start if k.startswith("unet")}, middle)
    run_stages(p, state)
    end = weights(p)
    assert same({k: middle[k] for k in middle if k.startswith(("unet", "text"))}, end)
    assert not same({k: middle[k] for k in middle if k.startswith("head")}, end)


def trained_by(method, windows):
    """Weights of a policy after so many steps of a method, of its generator and of its head."""
    p = policy()
    for _ in train.METHODS[method](p, windows, HOW, TrainState()):
        pass
    return {k: v for k, v in weights(p).items() if not k.startswith("head")}, weights(p, "head")


def other_actions(windows):
    """The same videos with other actions."""
    clips = [dataclasses.replace(clip, actions=1 - clip.actions) for clip in windows.clips]
    return Windows(clips, windows.config)


@pytest.mark.parametrize(
    ("method", "generator_learns", "from_actions"),
    [("two_stage", True, False), ("joint", True, True), ("joint_detached", True, False), ("bc", True, True),
     ("frozen_random", False, False)],
)  # fmt: skip
def test_where_the_gradients_go(method, generator_learns, from_actions):
    """Catches a method that trains what it should freeze, or lets the actions reach a generator that they should not:
    the one thing in which the five differ.
    """
    start, windows = policy().state_dict(), made_windows()
    generator, head = trained_by(method, windows)
    assert same(generator, start) != generator_learns and not same(head, start)
    assert same(generator, trained_by(method, other_actions(windows))[0]) != from_actions


def test_actions_that_were_taken_away_are_not_used(tmp_path):
    """Catches --labelled and --action-free letting through the very labels that they take away."""
    read = dict(cameras=("front",), size=16)
    path = write_demos(tmp_path / "Lift.hdf5")
    assert [clip.actions is None for clip in read_clips(path, "Lift", labelled=1, **read)[0]] == [False, True, True]
    assert all(clip.actions is None for clip in read_clips(path, "Lift", labelled=0, **read)[0])
    words = flags(tmp_path, tmp_path / "run", "--tasks", "Lift", "--action-free", "Lift", "--cameras", "front")
    with pytest.raises(train.InputError, match="no task is left with actions"):
        train.main([str(word) for word in words[1:]])


def test_cloning_never_sees_the_future():
    """Catches a baseline that finds the future in its noisy input in training, and not when it acts."""

    def features(method, seed):
        protocol = PROTOCOLS["tiny"]
        flags = f"{protocol.flags} {method_flags(protocol).get(method, method)}".split()
        config = config_from_args(train.parse(["--run", "r", *flags]))
        made, one = policy(config=config), batch(seed=1, config=config)
        one.future = batch(seed=seed, config=config).future
        noise = draw_noise(config, 3, seeded_generator([0]), p_sigma_max=1.0)
        return made.features(one, noise)

    for method, alike in (("bc", True), ("frozen_random", True), ("--no-zero-terminal-snr", False)):
        pairs = zip(features(method, 2), features(method, 3), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == alike


def test_a_video_horizon_of_nothing_is_the_current_frame():
    """Catches a zero horizon that shows the generator what comes next."""
    config = dataclasses.replace(CONFIG, video_frames=1, video_stride=0, prediction="frame")
    window = made_windows(config)[3]
    assert np.array_equal(window["future"][0], window["current"])


def test_training_lowers_both_losses():
    """Catches a loop that steps in the wrong direction or feeds a constant: on a few windows both losses must
    fall.
    """
    rows = run_stages(policy(awake=False), steps=60, head_steps=60, lr=5e-3, head_lr=5e-3)
    for name in ("video", "action"):
        losses = [row[name] for row in rows if name in row]
        assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10]), name


def test_same_seed_same_weights_whatever_ran_before():
    """Catches an ambient generator in training."""
    a = policy()
    run_stages(a)
    torch.manual_seed(99)
    np.random.seed(99)
    b = policy()
    torch.randn(7)
    run_stages(b)
    assert same(weights(a), weights(b))


@pytest.mark.parametrize("stop_after", [2, 4, 7], ids=["in stage 1", "at the end of stage 1", "in stage 2"])
def test_resuming_equals_never_having_stopped(tmp_path, stop_after):
    """Catches anything that the loop carries and resume.pt lacks: weights must agree bit for bit, in either stage."""
    unbroken = policy()
    run_stages(unbroken)
    first, state = policy(), TrainState()
    run_stages(first, state, stop_after=stop_after)
    save(tmp_path, first, state)
    second, state = policy(seed=5), TrainState()
    restore(tmp_path, second, state, 2, "cpu")
    run_stages(second, state)
    assert same(weights(unbroken), weights(second))


def test_the_averaged_weights_are_what_is_saved(tmp_path):
    """Catches a policy.pt with the raw weights, or a loop that trains on the averaged ones after a save."""
    p, state = policy(), TrainState()
    run_stages(p, state, stop_after=3)
    raw = weights(p)
    save(tmp_path, p, state)
    assert same(raw, weights(p))
    saved = VideoPolicy.load(tmp_path / "policy.pt").state_dict()
    for parameter, ema in zip(p.generator_parameters(), state.ema, strict=True):
        name = next(k for k, v in p.named_parameters() if v is parameter)
        assert torch.equal(saved[name], ema)


def still_batch(copies):
    """One frame that does not change, in so many clips."""
    frame = batch(1).current.expand(copies, -1, -1, -1, -1)
    return dataclasses.replace(batch(copies), current=frame, future=torch.stack([frame] * CONFIG.video_frames, dim=1))


def test_colours_are_changed_one_way_per_clip():
    """Catches colours that flicker within a clip, which would teach motion where there is none; clips that all get the
    same; a process that sees other ones than it would alone; and no change that changes something.
    """
    before, after = still_batch(2), color_jitter(still_batch(2), [0], 1.0)
    assert (after.future == after.current[:, None]).all()
    assert not torch.equal(after.current[0], after.current[1]) and not torch.equal(after.current, before.current)
    share = color_jitter(still_batch(1), [0], 1.0, index=1, count=2)
    assert torch.equal(share.current[0], after.current[1])
    assert torch.equal(color_jitter(still_batch(2), [0], 0.0).current, before.current)


def test_either_stage_sees_jittered_colours_and_can_be_repeated():
    """Catches colours drawn from an ambient generator, and a stage that sees the colours as they were taken."""
    p, q, windows = policy(), policy(), made_windows()
    for trained in (p, q):
        torch.randn(3)
        list(train.train_two_stage(trained, windows, dataclasses.replace(HOW, color_jitter=1.0), TrainState()))
    assert same(weights(p), weights(q))
    plain = policy()
    run_stages(plain)
    assert not same(weights(p, "unet"), weights(plain, "unet"))
    seen, as_taken = (
        cache_features(p, windows, dataclasses.replace(HOW, color_jitter=x), TrainState(stage=1)) for x in (1.0, 0.0)
    )
    assert seen.picked == as_taken.picked and not np.array_equal(seen.features[0], as_taken.features[0])


def test_learning_rate_warms_up_and_cools_down():
    """Catches a constant rate: it must rise over the warm-up, and end near zero in each stage."""
    rows = run_stages(policy(), steps=40, head_steps=2, warmup=0.2, cooldown=0.5)
    rates = [row["lr"] for row in rows if row["stage"] == 0 and "lr" in row]
    assert rates[0] < rates[4] < rates[8] == max(rates) and rates[-1] < 0.06 * max(rates)


def _gradient(rank, world, folder):
    """The averaged gradient of one global batch in one of `world` processes."""
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    p = policy()
    noise = draw_noise(CONFIG, 4, torch.Generator().manual_seed(0)).part(rank, world)
    whole = made_windows()
    picked = whole.draw(4, [0, 0, 0])[rank::world]
    shard = collate([whole[i] for i in picked])
    video, features = p.video_loss(shard, noise)
    (video + p.action_loss(shard, noise, features)).backward()
    average_gradients(list(p.parameters()))
    cache = cache_features(p, whole, dataclasses.replace(HOW, color_jitter=1.0), TrainState(stage=1))
    if rank == 0:
        cached = [torch.tensor(cache.picked), *map(torch.from_numpy, cache.features)]
        torch.save([w.grad for w in p.parameters()], f"{folder}/gradient{world}.pt")
        torch.save(cached, f"{folder}/cache{world}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tmp_path):
    """Catches shards that overlap, noise that differs, or a sum where the mean belongs."""
    for world in (1, 2):  # fresh processes both, so that they round alike
        mp.spawn(_gradient, args=(world, str(tmp_path)), nprocs=world)
    one, two = (torch.load(tmp_path / f"gradient{n}.pt", weights_only=True) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    one, two = (torch.load(tmp_path / f"cache{n}.pt", weights_only=True) for n in (1, 2))
    assert torch.equal(one[0], two[0]) and len(one[0]) == HOW.cache_size
    for a, b in zip(one[1:], two[1:], strict=True):  # features in the same places
        assert torch.allclose(a.float(), b.float(), rtol=1e-2, atol=1e-3)


def test_cached_features_are_what_the_generator_says():
    """Catches features that belong to another window than their actions, a cache that grows with few windows, and one
    that copies the frames, which the head never reads.
    """
    p, windows = policy(), made_windows()
    cache = cache_features(p, windows, HOW, TrainState(stage=1))
    item, window = cache[5], windows[cache.picked[5]]
    assert np.array_equal(item["actions"], window["actions"]) and not {"current", "future"} & set(item)
    noise = draw_noise(CONFIG, 4, seeded_generator([0, 1, 1, 1]), HOW.p_sigma_max)  # 5 is the second of batch 1
    with torch.no_grad():
        pooled = p.features(collate([windows[i] for i in cache.picked[4:8]]), noise)
    for kept, now in zip(item["features"], pooled, strict=True):
        assert np.array_equal(kept, now[1].half().numpy())
    few = Windows(windows.clips[:1], windows.config)
    how = dataclasses.replace(HOW, noise_per_window=2)
    assert len(cache_features(p, few, how, TrainState(stage=1)).picked) == 2 * len(few)


def test_cached_features_stay_finite(monkeypatch):
    """Catches features beyond the range of half precision, as one cloned network has: one infinity ends stage 2."""
    p = policy()
    monkeypatch.setattr(p, "features", lambda batch, noise: [torch.full((len(batch.prompts), 8), 7e4).bfloat16()])
    cache = cache_features(p, made_windows(), HOW, TrainState(stage=1))
    assert all(np.isfinite(f).all() for f in cache.features)


def test_batches_are_those_of_their_steps():
    """Catches a batch that was made ready for another step than the one that takes it, also after a resumption."""
    windows = made_windows()
    for first in (0, 3):
        ahead = batches(windows, 4, [0, 1], first, torch.device("cpu"))
        for step in range(first, first + 3):
            expected = collate([windows[i] for i in windows.draw(4, [0, 1, step])])
            assert torch.equal(next(ahead).future, expected.future)


def test_joint_training_with_few_labels_meets_them():
    """Catches batches without an action: with one clip of ten labelled, half of a batch must be of that one."""
    windows = made_windows()
    for clip in windows.clips[1:]:
        clip.actions = None
    mixed = HalfLabelled(windows)
    drawn = [mixed[i] for i in mixed.draw(8, [0, 0, 3])]
    assert sum(not window["pad"].all() for window in drawn) >= 4
    assert mixed.draw(8, [0, 0, 3]) == mixed.draw(8, [0, 0, 3]) != mixed.draw(8, [0, 0, 4])


def test_noise_shares_make_up_the_whole():
    """Catches a process that sees another's noise: the parts of a step's noise are the whole, each used once."""
    noise = draw_noise(CONFIG, 6, torch.Generator().manual_seed(0))
    parts = [noise.part(i, 3) for i in range(3)]
    assert torch.equal(torch.stack([p.video for p in parts], 1).flatten(0, 1), noise.video)
    assert torch.equal(torch.stack([p.action_sigma for p in parts], 1).flatten(), noise.action_sigma.flatten())


# -------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return write_demos(
        tmp_path_factory.mktemp("demos") / "Lift.hdf5", lengths=[12] * 4, cameras=("agentview",), size=84
    )


def flags(demos, run, *more):
    return [
        "train.py", "--data", demos, "--cameras", "agentview", "--image-size", "16", "--run", run,
        "--precision", "fp32", "--eval-every", "1000", *more,
    ]  # fmt: skip


SAVE_OFTEN = "import sys, train; train.SAVE_EVERY = 0.01; train.main(sys.argv[1:])"


def test_a_run_from_a_foreign_file_and_a_kill(demos, tmp_path):
    """Catches a run folder that lacks a promised file, and a kill -9 that costs more than one save interval or
    changes the result.
    """
    status, out, err = command(*flags(demos, tmp_path / "whole", "--steps", "22", "--head-steps", "40"))
    assert status == 0, err
    for name in ("policy.pt", "resume.pt", "args.json", "log.csv", "curves.png", "samples"):
        assert (tmp_path / "whole" / name).exists(), name
    with open(tmp_path / "whole" / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (22 + 1) + (40 + 1)
    assert rows[-1]["psnr_copy"] and rows[0]["video"] and rows[-2]["action"]
    assert json.loads((tmp_path / "whole" / "args.json").read_text())["trained_tasks"] == ["Lift"]

    cut = tmp_path / "cut"
    words = flags(demos, cut, "--steps", "22", "--head-steps", "40")
    status, _, _ = command("-c", SAVE_OFTEN, *words[1:], kill_when=cut / "resume.pt")
    assert status == -9 and not (cut / "curves.png").exists()
    status, out, err = command("train.py", "--run", cut, "--resume")
    assert status == 0, err
    whole, cut = (
        torch.load(folder / "policy.pt", weights_only=True)["weights"] for folder in (tmp_path / "whole", cut)
    )
    assert same(whole, cut)


def test_a_generator_that_is_taken_over_gives_the_same_policy(demos, tmp_path, monkeypatch):
    """Catches a second stage that depends on having run the first in the same process, a generator of another shape
    that slips in, a run that cannot be resumed since its generator is a path, flags of training that do nothing,
    and a head that has a share of --minutes only.
    """
    def run(name, *more):
        train.main([str(w) for w in flags(demos, tmp_path / name, "--steps", "6", "--head-steps", "9", *more)[1:]])
        return VideoPolicy.load(tmp_path / name / "policy.pt").state_dict()

    whole = run("whole")
    second = run("second", "--generator", tmp_path / "whole")
    assert same(whole, second)
    (tmp_path / "whole").rename(tmp_path / "elsewhere")  # it is not needed any more
    train.main(["--run", str(tmp_path / "second"), "--resume"])
    (tmp_path / "elsewhere").rename(tmp_path / "whole")
    assert same(whole, VideoPolicy.load(tmp_path / "second" / "policy.pt").state_dict())
    for flag in ("--color-jitter", "--action-noise-samples"):
        assert not same(second, run(flag, "--generator", tmp_path / "whole", flag, "2"))
    other_robot = write_demos(tmp_path / "Six.hdf5", cameras=("agentview",), action_size=6)
    run("six", "--generator", tmp_path / "whole", "--data", other_robot, "--tasks", "all")
    for more, mention in ((["--video-horizon", "16"], "video_frames"), (["--method", "bc"], "first stage")):
        with pytest.raises(train.InputError, match=mention):
            run("other", "--generator", tmp_path / "whole", *more)
    assert not (tmp_path / "other").exists()

    def enough(policy, windows, config, state):
        raise train.InputError(f"{config.video_share=}")

    monkeypatch.setitem(train.METHODS, "two_stage", enough)
    for more, share in (((), 0.75), (("--generator", tmp_path / "whole"), 0.0)):
        with pytest.raises(train.InputError, match=f"={share}"):
            run("share", *more)


def test_training_goes_on_from_the_generator_of_another_run(demos, tmp_path):
    """Catches --init that starts at random all the same, words that are mixed up or cannot be learned any more, a run
    that cannot be resumed since its beginning is gone, and the flag where nothing is trained on.
    """
    def run(name, *more):
        train.main([str(w) for w in flags(demos, tmp_path / name, "--steps", "2", "--head-steps", "2", *more)[1:]])
        return VideoPolicy.load(tmp_path / name / "policy.pt")

    first, other = run("first", "--seed", "1", "--steps", "20"), run("other")
    second = run("second", "--init", tmp_path / "first", "--prompt", "close it gently")
    old, moved = first.state_dict(), second.state_dict()
    far = {name: (weight - old[name]).norm() for name, weight in other.state_dict().items() if "unet" in name}
    assert all((moved[name] - old[name]).norm() < 0.2 * distance for name, distance in far.items() if distance > 1)
    assert second.vocab[: len(first.vocab)] == first.vocab and set(second.vocab) - set(first.vocab) == {"it", "gently"}
    embeddings = moved["text.word.weight"][: len(old["text.word.weight"])]
    assert torch.allclose(embeddings, old["text.word.weight"], atol=0.02) and moved["text.word.weight"][-1].norm() > 0

    (tmp_path / "first").rename(tmp_path / "gone")
    train.main(["--run", str(tmp_path / "second"), "--resume"])
    for more in (["--generator", tmp_path / "gone"], ["--method", "frozen_random"]):
        with pytest.raises(train.InputError, match="trains none"):
            run("neither", "--init", tmp_path / "gone", *more)
    with pytest.raises(train.InputError, match="other words"):  # words that no stage would train
        train.load_generator(tmp_path / "gone" / "policy.pt", second)


def test_flags_that_differ_from_those_of_the_start_are_refused(tmp_path):
    """Catches a run that is changed midway, also by a flag that is younger than its args.json."""
    train.main([str(w) for w in flags(write_demos(tmp_path / "Lift.hdf5", size=16), tmp_path / "run", "--cameras",
                                      "front", "--steps", "2", "--head-steps", "2")[1:]])
    saved = tmp_path / "run" / "args.json"
    saved.write_text(json.dumps({k: v for k, v in json.loads(saved.read_text()).items() if k != "color_jitter"}))
    resume = ["--run", str(tmp_path / "run"), "--resume"]
    for more in (["--steps", "9"], ["--color-jitter", "1"]):
        with pytest.raises(train.InputError, match=more[0]):
            train.main([*resume, *more])
    train.main(resume)


def test_torchrun_trains_the_same_model(demos, tmp_path):
    """Catches a loop that stops, draws, saves or averages otherwise on two processes than on one."""
    words = ("--steps", "4", "--head-steps", "8", "--color-jitter", "1", "--action-noise-samples", "3")
    assert command(*flags(demos, tmp_path / "one", *words))[0] == 0
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "--",
    ]  # -- or it takes --run for its own
    status, _, err = command(*launch, *flags(demos, tmp_path / "two", *words))
    assert status == 0, err
    one, two = (VideoPolicy.load(tmp_path / name / "policy.pt").state_dict() for name in ("one", "two"))
    for name in one:
        assert torch.allclose(one[name], two[name], atol=2e-3), name


BAD_FLAGS = {
    "unknown preset": (["--preset", "huge"], "--preset"),
    "no such camera": (["--cameras", "nose"], "choose --cameras from: agentview"),
    "odd size": (["--image-size", "40"], "image_size"),
    "horizon": (["--video-horizon", "30"], "--video-horizon"),
    "pixels for joint": (["--method", "joint", "--decoder", "pixels"], "--decoder"),
    "pixels of too little": (["--decoder", "pixels", "--video-horizon", "16"], "--video-horizon"),
    "no such videos": (["--videos", "/nowhere"], "/nowhere"),
    "one file for two tasks": (["--tasks", "Lift", "--action-free", "Other"], "--action-free"),
    "video for cloning": (["--method", "bc", "--action-free", "Lift"], "--action-free"),
    "the future for cloning": (["--method", "bc", "--no-zero-terminal-snr"], "--no-zero-terminal-snr"),
    "both budgets": (["--minutes", "1", "--head-steps", "5"], "--head-steps"),
    "negative steps": (["--steps", "-3"], "--steps"),
    "no steps at all": (["--minutes", "nan"], "--minutes"),
    "no such data": (["--data", "/nowhere"], "/nowhere"),
    "no such device": (["--device", "tpu9"], "--device"),
    "nothing to resume": (["--resume"], "args.json"),
    "unknown flag": (["--optimiser", "sgd"], "--optimiser"),
}


@pytest.mark.parametrize("name", BAD_FLAGS)
def test_mistakes_get_one_line(name, demos, tmp_path, capsys):
    """Catches a traceback, a usage dump or a half-made run folder in answer to a wrong flag."""
    more, mention = BAD_FLAGS[name]
    with pytest.raises(SystemExit) as caught:
        as_command(lambda: train.main([str(w) for w in flags(demos, tmp_path / "run", *more)[1:]]))
    err = capsys.readouterr().err
    assert caught.value.code == 2
    assert mention in err and err.count("\n") == 1, err
    assert not (tmp_path / "run").exists()


def test_compiling_without_a_compiler_is_one_line(demos, tmp_path, monkeypatch):
    """Catches pages of a compiler's traceback on a laptop that has none."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(train.InputError, match="--compile"):
        train.main([str(w) for w in flags(demos, tmp_path / "run", "--device", "cpu", "--compile")[1:]])
    assert not (tmp_path / "run").exists()


def test_a_taken_run_folder_is_left_alone(demos, tmp_path, capsys):
    """Catches a run that writes over another."""
    policy().save(tmp_path / "policy.pt")
    before = (tmp_path / "policy.pt").read_bytes()
    with pytest.raises(SystemExit):
        as_command(lambda: train.main([str(w) for w in flags(demos, tmp_path, "--steps", "2")[1:]]))
    assert "is taken" in capsys.readouterr().err
    assert (tmp_path / "policy.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["preset", "method", "steps", "head_steps"])
def test_damaged_flags_are_not_resumed(demos, tmp_path, name):
    """Catches an args.json that lost a field and ends in a traceback, or in another number of steps."""
    (tmp_path / "args.json").write_text(json.dumps({"preset": "tiny", "method": "bc", "steps": 5, "head_steps": 5,
                                                    "precision": "fp32", "tasks": ["Lift"], "data": str(demos),
                                                    "videos": None} | {name: None}))  # fmt: skip
    with pytest.raises(train.InputError, match="args.json: missing or damaged"):
        train.parse(["--run", str(tmp_path), "--resume"])


@pytest.mark.parametrize("given", ["", "--zero-terminal-snr", "--no-zero-terminal-snr"])
def test_a_resumed_run_has_the_flags_it_was_started_with(demos, tmp_path, given):
    """Catches a flag that says no to the default, and is forgotten or refused by --resume."""
    started = train.parse([str(w) for w in flags(demos, tmp_path, "--preset", "small", *given.split())[1:]])
    (tmp_path / "args.json").write_text(json.dumps(vars(started) | {"trained_tasks": ["Lift"]}, default=str))
    resumed = train.parse(["--run", str(tmp_path), "--resume"])
    wanted = {"": None, "--zero-terminal-snr": True, "--no-zero-terminal-snr": False}[given]
    assert started.zero_terminal_snr is resumed.zero_terminal_snr is wanted


def test_what_a_stage_says_of_its_time(tmp_path, monkeypatch, capsys):
    """Catches an estimate that takes the caching of features for the time of a step, and one of no step at all."""
    monkeypatch.setattr(train, "save", lambda *_: None)
    monkeypatch.setattr(train, "dream_error", lambda *_: pytest.fail("not asked for"))
    state = TrainState(cache_seconds=60.0)
    rows = [{"stage": 1, "step": n, "seconds": 60.0 + n, "progress": n / 120, "action": 1.0} for n in (1, 11, 12)]
    train.run_training(iter(rows), policy(), None, state, tmp_path, "two_stage", 1e9)
    assert "1.00 s a step, so about 3.0 minutes here" in capsys.readouterr().out


def test_batch_of_common_has_the_shape_of_collate():
    """Catches test data that drifts away from what training feeds."""
    made, real = batch(), collate([made_windows()[i] for i in range(3)])
    for name, value in vars(real).items():
        if torch.is_tensor(value):
            assert vars(made)[name].shape == value.shape and vars(made)[name].dtype == value.dtype, name


# ----------------------------------------------------------------- the optimizer


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)], ids=["wide", "tall", "square"])
def test_orthogonalize_keeps_the_directions_and_evens_out_their_sizes(shape):
    """Catches a Newton-Schulz iteration that diverges, transposes, or leaves small directions small."""
    torch.manual_seed(0)
    U, S, Vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    S = torch.logspace(0, -2, len(S))
    step = orthogonalize(U @ torch.diag(S) @ Vh)
    assert step.shape == shape
    inside = U.T @ step @ Vh.T  # diagonal where directions are kept
    assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-3)
    assert 0.65 < inside.diagonal().min() and inside.diagonal().max() < 1.25


def test_muon_trains_the_matrices_of_the_generator_and_adamw_the_rest():
    """Catches a weight that no optimizer trains or both do, and an embedding table or a head under Muon."""
    p = policy()
    trained = {"generator": p.generator_parameters(), "head": p.head_parameters()}
    muon, adamw = make_optimizers(p, trained, HOW)
    by_muon, by_adamw = ([w for g in optimizer.param_groups for w in g["params"]] for optimizer in (muon, adamw))
    assert sorted(map(id, by_muon + by_adamw)) == sorted(map(id, p.parameters()))
    assert all(w.ndim >= 2 for w in by_muon)
    tables = (p.text.word.weight, p.text.position, p.unet.frame, p.unet.view, *p.head.parameters())
    assert not {id(w) for w in tables} & {id(w) for w in by_muon}
    assert len(make_optimizers(p, trained, dataclasses.replace(HOW, muon=False))) == 1
    assert len(make_optimizers(p, {"head": trained["head"]}, HOW)) == 1


def test_a_step_of_muon_is_as_long_as_the_rate_says():
    """Catches a step whose size depends on that of the gradient, or that does not fit AdamW's rate (0.2 an entry)."""
    w = torch.nn.Parameter(torch.randn(32, 8, 3, 3).to(memory_format=torch.channels_last))
    optimizer = Muon([w], lr=0.1)
    for scale in (1e-4, 1e4):
        optimizer.state.clear()
        before, w.grad = w.detach().clone(), scale * torch.randn_like(w)
        optimizer.step()
        assert 0.1 < (w.detach() - before).pow(2).mean().sqrt() / 0.1 < 0.3
