"""The training loop: what each stage trains, resuming, several processes, the command line."""

import csv
import dataclasses
import json
import os
import shutil
import signal
from itertools import islice

import numpy as np
import pytest
import torch
from common import CONFIG, batch, command, policy, write_demos
from torch import nn

import train
import training.run
import videopolicy
from data.windows import Clip, Windows
from training.build import data_hash, load_clips, make_policy, override
from training.device import seeded_generator
from training.feature_cache import cache_features
from training.noise import draw_noise
from training.optimizers import Muon, make_optimizers, orthogonalize
from training.run import TrainState, restore, save, take_weights
from util.cli import command as as_command
from util.files import InputError
from videopolicy import VideoPolicy, collate

HOW = train.TrainConfig(steps=4, head_steps=4, batch_size=4, cache_size=24, head_batch=4, precision="fp32")
GENERATOR = ("generator", "prompt_encoder")  # what stage 1 trains


def made_windows(config=CONFIG):
    rng, size, clips = np.random.default_rng(0), config.image_size, []
    for _ in range(3):
        frames = rng.integers(256, size=(10, len(config.cameras), 3, size, size), dtype=np.uint8)
        clips.append(Clip(frames, rng.random((10, config.action_size), np.float32), "open the drawer", "A"))
    return Windows(clips, config)


def trained(p, state=None, method="two_stage", windows=None, stop_after=None, **changes):
    """Train p in place; returns the rows. stop_after leaves the loop after so many rows, as a kill would."""
    config, state = dataclasses.replace(HOW, **changes), state or TrainState()
    return list(islice(train.METHODS[method](p, windows or made_windows(), config, state), stop_after))


def weights(p, *parts):
    return {k: v.clone() for k, v in p.state_dict().items() if k.startswith(parts or "")}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("method", "stages", "generator_learns", "from_actions", "from_video"),
    [("two_stage", ["video", "features", "action"], True, False, True), ("joint", ["joint"], True, True, True),
     ("joint_detached", ["joint"], True, False, True), ("bc", ["bc"], True, True, False),
     ("frozen_random", ["features", "action"], False, False, False)],
)  # fmt: skip
def test_where_the_gradients_go(method, stages, generator_learns, from_actions, from_video, monkeypatch):
    """Catches a method that trains what it should freeze, lets actions reach a generator that they should not, or
    learns from a future that it does not see when acting: what the five differ in.
    """
    start = policy().state_dict()

    def result(windows):
        p, state = policy(), TrainState()
        rows = trained(p, state, method, windows, stop_after=5)  # of two stages, row 5 is the end of the first
        middle = weights(p)
        rows += trained(p, state, method, windows)
        if method == "two_stage":
            assert same(weights(policy(), "head"), middle) and same(weights(p, *GENERATOR), middle)
        assert list(dict.fromkeys(row["stage"] for row in rows)) == stages and not same(weights(p, "head"), start)
        return weights(p, *GENERATOR)

    generator = result(made_windows())
    assert same(generator, start) != generator_learns
    clips = [dataclasses.replace(clip, actions=1 - clip.actions) for clip in made_windows().clips]
    assert same(generator, result(Windows(clips, CONFIG))) != from_actions
    of_window = Windows.__getitem__
    monkeypatch.setattr(Windows, "__getitem__", lambda w, i: (x := of_window(w, i)) | {"future": 255 - x["future"]})
    assert same(generator, result(made_windows())) != from_video


class DummyHead(nn.Module):
    """A head of one linear layer that reads the mean of the first feature map."""

    Config = dataclasses.make_dataclass("DummyConfig", [("gain", float, 1.0)], frozen=True)

    def __init__(self, config, feature_shapes, *, chunk, action_size):
        super().__init__()
        self.gain, self.shape = config.gain, (-1, chunk, action_size)
        self.out = nn.Linear(feature_shapes[0][2], chunk * action_size)

    def pool(self, maps):
        return [maps[0].mean((1, 2, 4, 5))]

    def draw_dropout(self, batch, samples, rng):
        return torch.ones(batch, samples, 1)

    def summarise(self, pooled, dropout=None):
        return pooled[0] if dropout is None else pooled[0][:, None] * dropout

    def forward(self, noisy, c_noise, summary):
        return self.gain * self.out(summary).view(self.shape)


class DummyGenerator(nn.Module):
    """A generator of one convolution, with one feature map of an odd shape."""

    def __init__(self, *, frames, views, out_channels, prompt_width, **_):
        super().__init__()
        self.out, self.prompt = nn.Conv2d(3, out_channels, 1), nn.Linear(prompt_width, 5)
        self.feature_shapes = [(frames, views, 5, 2, 3)]

    def forward(self, noisy, current, c_noise, prompt):
        y = self.out((noisy + current[:, None]).flatten(0, 2)).unflatten(0, noisy.shape[:3])
        maps = self.prompt(prompt)[:, None, None, :, None, None] + y.mean((3, 4, 5))[..., None, None, None]
        return y, [maps.expand(-1, -1, -1, 5, 2, 3)]


@pytest.mark.parametrize("part", ["head_name", "generator_name"])
def test_a_head_and_a_generator_are_added_by_one_row(part, tmp_path, monkeypatch):
    """Catches a seam that is none: something of the MLP or the U-Net that is used outside of its file."""
    monkeypatch.setitem(videopolicy.HEADS, "dummy", DummyHead)
    monkeypatch.setitem(videopolicy.GENERATORS, "dummy", DummyGenerator)
    config, _ = override((CONFIG, HOW), {}, [f"{part}=dummy"] + ["head.gain=2"] * (part == "head_name"))
    p = make_policy(config, made_windows(config), 0)
    start, rows = weights(p), trained(p, steps=3, head_steps=3)
    assert [row["step"] for row in rows if "lr" in row] == [1, 2, 3] * 2
    assert not same(weights(p, "head"), start) and not same(weights(p, *GENERATOR), start)
    p.save(tmp_path / "policy.pt")
    q, b = VideoPolicy.load(tmp_path / "policy.pt"), batch()
    chunks = [each.eval().act(b.current, ["open the drawer"] * 3, seeded_generator([1]))[0] for each in (p, q)]
    assert torch.equal(*chunks) and q.config == config


def test_training_lowers_both_losses():
    """Catches a loop that steps in the wrong direction or feeds a constant; and a rate that does not rise over the
    warm-up and end near zero.
    """
    rows = trained(policy(awake=False), steps=60, head_steps=60, lr=5e-3, head_lr=5e-3, warmup=0.2)
    for name in ("video", "action"):
        losses = [row[name] for row in rows if name in row]
        assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10]), name
    rates = [row["lr"] for row in rows if row["stage"] == "video" and "lr" in row]
    assert rates[0] < rates[6] < rates[12] == max(rates) == 5e-3 and rates[-1] < 0.06 * max(rates)


@pytest.mark.parametrize("stop_after", [2, 4, 5, 13], ids=["video", "last step of video", "video finished", "action"])
def test_resuming_equals_never_having_stopped(tmp_path, stop_after):
    """Catches anything that the loop carries and resume.pt lacks, an ambient generator, a finished stage that is run
    again, a policy.pt with the raw weights, and a loop that trains on the averaged ones after a save.
    """
    unbroken, first, state = policy(), policy(), TrainState()
    trained(unbroken)
    rows = trained(first, state, stop_after=stop_after)
    raw = weights(first)
    save(tmp_path, first, state)
    assert same(raw, weights(first))
    averaged, names = VideoPolicy.load(tmp_path / "policy.pt").state_dict(), {p: k for k, p in first.named_parameters()}
    assert all(torch.equal(averaged[names[p]], w) for p, w in zip(state.parameters, state.ema or [], strict=True))
    assert same(raw, averaged) == (state.ema is None)
    second, state = policy(seed=5), TrainState()
    (tmp_path / "args.json").write_text('{"data_hash": "x"}')
    restore(tmp_path, state, {"data_hash": "x"}, "cpu")
    take_weights(second, state)
    rows += trained(second, state)
    assert same(weights(unbroken), weights(second)) and state.finished == ["video", "action"]
    steps = [(row["stage"], row["step"]) for row in rows if row["stage"] != "features" and not row.get("finished")]
    assert steps == [(stage, step) for stage in ("video", "action") for step in (1, 2, 3, 4)]


def cached(p, windows, **changes):
    """The feature cache of the second stage."""
    config, cache = dataclasses.replace(HOW, **changes), []

    def whole():
        cache.append((yield from cache_features(p, windows, config, TrainState(finished=["video"]))))

    return [*whole(), *cache][-1]


def test_cached_features_are_what_the_generator_says(monkeypatch):
    """Catches features that belong to another window than their actions, a cache that grows with few windows or copies
    the frames, and a feature beyond the range of half precision, which would end stage 2.
    """
    p, windows = policy(), made_windows()
    cache = cached(p, windows)
    item, window = cache[5], windows[cache.picked[5]]
    assert np.array_equal(item["actions"], window["actions"]) and not {"current", "future"} & set(item)
    four = collate([windows[i] for i in cache.picked[4:8]])  # of batch 1, 5 is the second
    with torch.no_grad():
        features = p.features(four, draw_noise(CONFIG, p.head, four, seeded_generator([0, 1, 1, 1])))
    assert all(np.array_equal(a, b[1].half().numpy()) for a, b in zip(item["features"], features, strict=True))
    few = Windows(windows.clips[:1], CONFIG)
    assert len(cached(p, few, noise_per_window=2).picked) == 2 * len(few)
    monkeypatch.setattr(p, "features", lambda batch, noise: [torch.full((len(batch.prompts), 8), 7e4).bfloat16()])
    assert all(np.isfinite(f).all() for f in cached(p, windows).features)


def test_labels_that_are_taken_away_are_not_used(demos):
    """Catches labels that --labelled takes away and that are used, and joint training that fails on clips without."""
    config = dataclasses.replace(CONFIG, cameras=("agentview",))
    free = [[c.actions is None for c in load_clips(config, demos, ["all"], labelled=n)[0]] for n in (None, 1)]
    assert free == [[False] * 3, [False, True, True]]
    windows = made_windows()
    windows.clips[1:] = [dataclasses.replace(clip, actions=None) for clip in windows.clips[1:]]
    assert trained(policy(), method="joint", windows=windows)[-1]["finished"]


def test_muon_evens_out_the_directions_of_the_matrices_of_the_generator():
    """Catches a Newton-Schulz iteration that diverges, transposes, or leaves small directions small; a step that grows
    with the gradient or does not fit AdamW's rate (0.2 an entry); a weight that no optimizer trains or both do; and an
    embedding table or a head under Muon.
    """
    for shape in ((12, 40), (40, 12), (16, 16)):
        U, S, Vh = torch.linalg.svd(torch.randn(shape, generator=seeded_generator([0])), full_matrices=False)
        inside = U.T @ orthogonalize((U @ torch.diag(torch.logspace(0, -2, len(S))) @ Vh)[None])[0] @ Vh.T
        assert torch.allclose(inside, torch.diag(inside.diagonal()), atol=1e-3)  # directions are kept
        assert 0.65 < inside.diagonal().min() and inside.diagonal().max() < 1.25
    for scale in (1e-4, 1e4):
        w = nn.Parameter(torch.zeros(32, 8, 3, 3).to(memory_format=torch.channels_last))
        w.grad = scale * torch.randn(w.shape)
        Muon([w], lr=0.1).step()
        assert 0.1 < w.detach().pow(2).mean().sqrt() / 0.1 < 0.3
    p = policy()
    both = {"generator": p.generator_modules(), "head": p.head}
    optimizers = make_optimizers(both, HOW)
    by_muon, by_adamw = ([w for g in optimizer.param_groups for w in g["params"]] for optimizer in optimizers)
    assert sorted(map(id, by_muon + by_adamw)) == sorted(map(id, p.parameters()))
    others = [p.prompt_encoder.word.weight, p.prompt_encoder.position, p.generator.frame, *p.head.parameters()]
    assert all(w.ndim >= 2 for w in by_muon) and not {*map(id, others)} & {*map(id, by_muon)}
    assert [group["peak"] for group in optimizers[1].param_groups] == [HOW.lr, HOW.head_lr]
    assert len(make_optimizers(both, dataclasses.replace(HOW, muon=False))) == 1


SMALL = ["cameras=agentview", "image_size=16", "widths=32,32", "attention=false,true", "embed=32", "video_frames=2",
         "precision=fp32", "eval_every=1000", "cache_size=24", "noise_samples=3"]  # fmt: skip


def flags(demos, folder, *more):
    """Words of a run on one robomimic file, without the script."""
    sets = [pair for pair in SMALL if not any(str(word).startswith(pair.split("=")[0]) for word in more)]
    return [*map(str, ["--data", demos, "--run", folder, "--steps", 4, "--head-steps", 4, "--set", *sets, *more])]


def run(demos, folder, *more, words=None):
    """Train in this process -> the policy."""
    train.main(words or flags(demos, folder, *more))
    return VideoPolicy.load(folder / "policy.pt")


def resume(folder):
    return run(None, folder, words=["--run", str(folder), "--resume"])


def log(folder, *columns):
    with open(folder / "log.csv") as file:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file)]


def assert_alike(cut, whole):
    """Two runs have the same weights, bit for bit, and logged the same losses of the same steps, each once."""
    assert same(*(weights(VideoPolicy.load(folder / "policy.pt")) for folder in (cut, whole)))
    assert log(cut, "stage", "step", "video", "action") == log(whole, "stage", "step", "video", "action")


def refused(capsys, words, mention):
    """The command answers with one line and exit status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        as_command(lambda: train.main([*map(str, words)]))
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.count("\n") == 1 and mention in err, err


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    path = tmp_path_factory.mktemp("demos") / "Lift.hdf5"
    return write_demos(path, lengths=[12] * 4, cameras=("agentview",), size=84, masks=True)  # as robomimic has it


@pytest.fixture(scope="module")
def whole(demos, tmp_path_factory):
    """The folder of a finished run of 4 + 4 steps."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(demos, folder)
    return folder


def test_a_run_from_a_foreign_file_and_a_kill(demos, whole, tmp_path, capsys):
    """Catches a run folder that lacks a promised file, and a kill -9 that costs more than one save interval, changes
    the result or leaves rows in log.csv twice; and commands that are taken for poses, or silently kept.
    """
    assert (whole / "curves.png").exists() and (whole / "samples/video_000004.png").exists()
    rows = log(whole, "stage", "step", "video", "action", "copy_psnr")
    assert [row[:2] for row in rows] == [(stage, str(s)) for stage in ("video", "action") for s in (1, 2, 3, 4, 4)]
    assert rows[0][2] and rows[-2][3] and rows[4][4] and rows[-1][4]
    assert json.loads((whole / "args.json").read_text())["trained_tasks"] == ["Lift"]
    cut, often = tmp_path / "cut", "import sys, train, training.run as r; r.SAVE_EVERY = 0.01; train.main(sys.argv[1:])"
    status, _, _ = command("-c", often, *flags(demos, cut), kill_when=cut / "policy.pt")
    assert status == -9 and not (cut / "curves.png").exists()
    resume(cut)
    assert_alike(cut, whole)
    assert capsys.readouterr().out.count("no poses of one arm with two fingers; actions are those of the file") == 1


@pytest.mark.parametrize(("stage", "name"), [("video", "SIGINT"), ("features", "SIGTERM"), ("action", "SIGTERM")])
def test_a_signal_stops_between_steps_and_nothing_is_lost(stage, name, demos, whole, tmp_path, monkeypatch):
    """Catches a Ctrl-C or SIGTERM that loses steps, breaks the cache of features, or has another exit status; and rows
    of log.csv that are younger than the last save and stay, or were cut short.
    """
    number, look = signal.Signals[name], training.run.Watch.look
    handler = signal.signal(number, signal.default_int_handler)  # where tests run in the background it is ignored

    def interrupted(self, row):
        look(self, row)
        if (row["stage"], row["step"]) == (stage, 2):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(training.run.Watch, "look", interrupted)
    with pytest.raises(SystemExit) as caught:
        run(demos, tmp_path / "cut")
    monkeypatch.undo()
    signal.signal(number, handler)
    assert caught.value.code == 128 + number
    assert len(log(tmp_path / "cut", "step")) == {"video": 2, "features": 5, "action": 7}[stage]
    with open(tmp_path / "cut" / "log.csv", "a") as file:
        file.write("action,9,1,,0.5,,,,,,\r\naction,1")
    resume(tmp_path / "cut")
    assert_alike(tmp_path / "cut", whole)


def test_a_generator_that_is_taken_over_gives_the_same_policy(demos, whole, tmp_path):
    """Catches a second stage that depends on having run the first in the same process, a generator of another shape
    that slips in, and fields of the head that do nothing.
    """
    wanted = weights(VideoPolicy.load(whole / "policy.pt"))
    assert same(wanted, weights(run(demos, tmp_path / "same", "--generator", whole)))
    assert set(log(tmp_path / "same", "stage")) == {("action",)}
    for field in ("noise_samples=2", "head.dropout=0.1", "head_lr=1e-4"):
        assert not same(wanted, weights(run(demos, tmp_path / field, "--generator", whole, "--set", field))), field
    six = write_demos(tmp_path / "Six.hdf5", cameras=("agentview",), action_size=6)
    assert run(six, tmp_path / "six", "--generator", whole).config.action_size == 6
    with pytest.raises(InputError, match="video_frames"):
        run(demos, tmp_path / "other", "--generator", whole, "--set", "video_frames=4")
    assert not (tmp_path / "other").exists()


def test_training_goes_on_from_the_generator_of_another_run(demos, whole, tmp_path):
    """Catches --init that starts at random all the same, or with other video, by the statistics of added data; words
    that are mixed up or cannot be learned any more; and a run not resumed since the run that it began with is gone.
    """
    shutil.copytree(whole, tmp_path / "old")
    more = ("--seed", 1, "--set", "prompt=close it gently", "lr=1e-4")
    made = {flag: run(demos, tmp_path / flag, flag, tmp_path / "old", *more) for flag in ("--init", "--generator")}
    old, new = VideoPolicy.load(whole / "policy.pt"), made["--init"]
    assert new.vocab[: len(old.vocab)] == old.vocab and set(new.vocab) - set(old.vocab) == {"it", "gently"}
    for name, weight in weights(old, *GENERATOR).items():  # of new words, the table of embeddings has more rows
        assert 0 < (new.state_dict()[name][: len(weight)] - weight).abs().max() < 1e-2, name
    clip = load_clips(old.config, demos, ["all"])[0][0]
    added = dataclasses.replace(clip, frames=255 - clip.frames // 3, actions=5 * clip.actions, prompt="lift it now")
    more = Windows([clip, added], old.config)
    start, b = make_policy(old.config, more, 1, old).eval(), collate([more[3]])
    noise = draw_noise(old.config, old.head, b, seeded_generator([0]))
    assert torch.equal(*(p.video_loss(b, noise)[0] for p in (old, start))) and start.action_high[0] > 4
    shutil.rmtree(tmp_path / "old")
    assert all(same(weights(p), weights(resume(tmp_path / flag))) for flag, p in made.items())


def test_every_frame_is_in_the_hash_of_the_data():
    """Catches --resume on data in which a frame, an action, a pose or a prompt has changed."""
    clip = dataclasses.replace(made_windows().clips[0], poses=np.zeros((10, 10)))
    changes = ({}, {"frames": clip.frames.copy()}, {"actions": 1 - clip.actions}, {"poses": None}, {"prompt": "go"})
    changes[1]["frames"][-1, 1, 2, 3, 3] ^= 1
    assert len({data_hash([clip, dataclasses.replace(clip, **change)]) for change in changes}) == 5


def test_torchrun_trains_the_same_model(demos, whole, tmp_path):
    """Catches a loop that stops, draws, caches, saves or averages otherwise on two processes than on one: a sum where
    the mean belongs shows in the norm of the gradient.
    """
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--"]  # else it takes --run
    status, _, err = command(*launch, "train.py", *flags(demos, tmp_path / "two"))
    assert status == 0, err
    one, two = (VideoPolicy.load(folder / "policy.pt").state_dict() for folder in (whole, tmp_path / "two"))
    assert all(torch.allclose(weight, two[name], atol=2e-3) for name, weight in one.items())
    assert log(whole, "stage", "step") == log(tmp_path / "two", "stage", "step")
    norms = [[float(norm) for (norm,) in log(folder, "grad_norm") if norm] for folder in (whole, tmp_path / "two")]
    assert np.allclose(*norms, rtol=0.01)


def test_fields_are_set_by_their_types():
    """Catches --set that reads a type wrongly, forgets its first use, or changes the preset for the next run."""
    words = "--run r --preset small --steps 7 --video-horizon 16 --set widths=32,64 attention=false,true muon=false"
    more = "--set head.squeeze=16 lr=2e-3 betas=0.8,0.9 cameras=front,wrist prompt=go"
    _, config, how = train.parse([*words.split(), *more.split()])
    small, small_how = train.PRESETS["small"]
    changed = {"widths": (32, 64), "attention": (False, True), "cameras": ("front", "wrist"), "video_frames": 2}
    assert config == dataclasses.replace(small, head=dataclasses.replace(small.head, squeeze=16), **changed)
    assert how == dataclasses.replace(small_how, steps=7, muon=False, lr=2e-3, betas=(0.8, 0.9), prompt="go")
    assert train.parse(["--run", "r"])[1:] == train.PRESETS["tiny"]
    window = made_windows(train.parse(["--run", "r", "--video-horizon", "0"])[1])[3]
    assert np.array_equal(window["future"][0], window["current"])  # a horizon of 0 does not show what comes next


@pytest.mark.parametrize(("words", "mention"), [
    ("--preset huge", "--preset"), ("--optimiser sgd", "--optimiser"), ("--device tpu9", "--device"),
    ("--data /nowhere", "/nowhere"), ("--resume", "args.json"), ("--steps -3", "steps=-3: needed is at least 1"),
    ("--set image_size=41", "needed is a multiple of 8"), ("--set cameras=a,a", "different names"),
    ("--set widths=32,40", "multiples of 32"), ("--set attention=true", "as many as widths"),
    ("--set head_name=none", "one of mlp"), ("--set generator_name=none", "one of unet"),
    ("--set prediction=none", "one of gated"), ("--set sigma_min=30", "between 0 and"),
    ("--set batch_size=0", "batch_size=0: needed is at least 1"), ("--set head.dropout=1", "dropout=1.0"),
    ("--set learning_rate=1", "head.squeeze, head.grid"),  # the names are listed
    ("--set head.squeeze=many", "of type int"), ("--set muon=perhaps", "true or false"),
    ("--set seed=1 --seed 2", "given twice"), ("--set video_frames=2 --video-horizon 32", "given twice"),
    ("--set prompt=...", "has no words"), ("--set cameras=nose", "take agentview"),
    ("--video-horizon 30", "--video-horizon: must be a multiple"),
    ("--action-free Other", "--action-free"), ("--tasks Lift --action-free Lift", "no task is left with actions"),
    ("--method bc --action-free Lift", "--method bc"), ("--method bc --set zero_terminal_snr=false", "--method bc"),
    ("--method bc --generator r", "no first stage"), ("--method frozen_random --init r", "--init: trains"),
])  # fmt: skip
def test_mistakes_get_one_line(words, mention, demos, tmp_path, capsys, monkeypatch):
    """Catches a traceback, a usage dump or a half-made run folder in answer to a wrong flag."""
    refused(capsys, flags(demos, tmp_path / "run", *words.split()), mention)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_resumed_and_what_is_taken(demos, whole, tmp_path, capsys):
    """Catches a run that is changed midway, writes over another, or ends in a traceback where a file of it is damaged,
    is of another run or lacks a field.
    """
    cut, again = tmp_path / "cut", ["--run", tmp_path / "cut", "--resume"]
    shutil.copytree(whole, cut)
    before = {name: (cut / name).read_bytes() for name in ("policy.pt", "resume.pt", "args.json")}
    refused(capsys, flags(demos, cut), "is taken")
    for more in ("--steps 9", "--set lr=1e-4", "--method bc", "--labelled 2"):
        refused(capsys, [*again, *more.split()], f"{more.split()[0]}: the run in {cut}")
    other = write_demos(tmp_path / "Lift.hdf5", lengths=[12] * 3, cameras=("agentview",), size=84, masks=True)
    refused(capsys, [*again, "--data", other], "--data")
    found = torch.load(cut / "resume.pt", weights_only=True)
    damaged = {"resume.pt": [before["resume.pt"][:9000], {k: v for k, v in found.items() if k != "step"},
                             found | {"weights": policy().state_dict()},  # of another network, of another method
                             found | {"finished": [], "step": 2, "ema": [torch.zeros(3)], "optimizers": [{}, {}]}],
               "args.json": [b"{", b"[1]", json.dumps({"preset": "tiny"}).encode()]}  # fmt: skip
    for name, kind in [(name, kind) for name, kinds in damaged.items() for kind in kinds]:
        (cut / name).write_bytes(kind) if isinstance(kind, bytes) else torch.save(kind, cut / name)
        refused(capsys, again, name)
        (cut / name).write_bytes(before[name])
    assert {name: (cut / name).read_bytes() for name in before} == before
    resume(cut)
