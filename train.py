"""Train a Video Policy. Reads demonstration files and never starts a simulator, so a box without OpenGL can train.

    python train.py --preset tiny --tasks CloseDrawer --demos 50 --data demos --run runs/close_drawer --minutes 7
    python train.py --preset tiny --tasks CloseDrawer --demos 50 --data demos --run runs/try --minutes 1      # a taste
    torchrun --nproc_per_node=2 train.py ...                                   # the same script on several processes

A run folder holds policy.pt (averaged weights: enough to act), resume.pt, args.json, log.csv, curves.png and samples/.
"""

import csv
import dataclasses
import json
import math
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from dreams import dream_error, plot_curves, save_strip
from model.text import vocabulary
from sim.cli import InputError, Parser, positive, run, whole
from sim.windows import Windows, find_files, read_clips, statistics
from videopolicy import (
    PREDICT,
    PRESETS,
    CheckpointError,
    ConfigError,
    Config,
    VideoPolicy,
    collate,
    draw_noise,
    load_file,
    save_file,
)

COLUMNS = ["stage", "step", "seconds", "video", "action", "lr", "grad_norm", "psnr_dream", "psnr_mean", "psnr_still", "action_error"]


@dataclass(frozen=True)
class Recipe:
    """How to train; what is trained is Config. The comment on each line is the reason for its value."""

    batch_size: int = 16  # of all processes together
    lr: float = 2e-3  # of AdamW
    head_lr: float = 2e-3
    weight_decay: float = 0.01
    betas: tuple = (0.9, 0.99)  # short memory: a run has a few thousand steps only
    clip: float = 1.0  # gradient norm
    warmup: float = 0.03  # share of a stage
    cooldown: float = 0.5  # share of a stage, linear to zero: the paper's constant rate leaves its checkpoints noisy
    ema: float = 0.998  # of the averaged weights, which are what acts
    video_share: float = 0.75  # of the budget that stage 1 gets
    pure_share: float = 0.3  # of the clips at sigma_max, where one-pass decisions read


RECIPES = {
    "tiny": Recipe(),
    "base": Recipe(batch_size=64, lr=5e-4, head_lr=1e-3, ema=0.9995),
}


@dataclass
class State:
    """Where a run stands; everything that --resume needs beside the weights. The loop below keeps it up to date."""

    stage: int = 0
    step: int = 0  # of this stage
    seconds: float = 0.0  # of this stage
    optimizer: dict | torch.optim.Optimizer | None = None  # a saved state until the stage's loop picks it up
    average: list | None = None  # averaged weights of what this stage trains
    trained: list = field(default_factory=list)  # the parameters they belong to


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of steps and minutes, over all stages."""

    steps: int | None = None
    minutes: float | None = None

    def progress(self, state, share):
        """How far the current stage is, 0 to 1, if it has `share` of the budget."""
        if self.steps is not None:
            return state.step / max(1, round(self.steps * share))
        return state.seconds / (60 * self.minutes * share)


# ------------------------------------------------------------------- the loops


def train_two_stage(policy, windows, recipe, budget, state, **how):
    """Learn to generate video; then freeze the generator and learn to read actions off its features."""
    share = recipe.video_share
    yield from optimise(policy, policy.generator_parameters(), ("video",), windows, recipe, budget, state, stage=0, share=share, **how)
    freeze(policy.generator_parameters())
    windows = windows.with_actions()
    yield from optimise(policy, policy.head.parameters(), ("action",), windows, recipe, budget, state, stage=1, share=1 - share, **how)


METHODS = {"two_stage": train_two_stage}
MISTAKES = (InputError, CheckpointError, ConfigError, OSError)  # become one line and exit status 2
STAGES = ("stage 1, dream", "stage 2, act")


def optimise(policy, parameters, streams, windows, recipe, budget, state, *, stage, share, seed, precision):
    """The training loop: a generator of one dict of floats per step, {stage, step, seconds, progress, <losses>, lr, grad_norm}, and a last one with
    "finished".

    Trains `parameters` on the losses named in `streams` for `share` of the budget, then leaves their averaged values in the policy.
    Everything drawn depends on (seed, stage, step) only: a resumed run, or one on more processes, sees the same data and noise.
    """
    if state.stage > stage:
        return  # done before the run was interrupted
    parameters = list(parameters)
    device = parameters[0].device
    rank, world = process()
    peak_lr = recipe.head_lr if streams == ("action",) else recipe.lr
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    else:
        state.average = [p.detach().clone() for p in parameters]
    state.optimizer, state.trained = optimizer, parameters
    clock = time.monotonic() - state.seconds

    while (progress := agree(budget.progress(state, share), device)) < 1:
        lr = peak_lr * min(1.0, progress / recipe.warmup, (1 - progress) / recipe.cooldown)  # a trapezoid
        optimizer.param_groups[0]["lr"] = lr

        key = [seed, stage, state.step]
        picked = windows.draw(recipe.batch_size, key)[rank::world]
        batch = collate([windows[i] for i in picked]).to(device)
        noise = draw_noise(policy.config, recipe.batch_size, generator_of(key, device), recipe.pure_share).part(rank, world)

        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            losses = policy.loss(batch, noise, streams)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        average_gradients(parameters, world)
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        if not math.isfinite(grad_norm):
            raise InputError(f"stage {stage} step {state.step}: the gradient is {float(grad_norm)}; lower the learning rate or look at the data")
        optimizer.step()
        torch._foreach_lerp_(state.average, [p.detach() for p in parameters], 1 - min(recipe.ema, (1 + state.step) / (10 + state.step)))

        state.step += 1
        state.seconds = time.monotonic() - clock
        row = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "lr": lr, "grad_norm": float(grad_norm)}
        yield row | {name: float(loss.detach()) for name, loss in losses.items()} | {"progress": progress}

    with torch.no_grad():
        for p, average in zip(parameters, state.average, strict=True):
            p.copy_(average)
    row = {"stage": stage, "step": state.step, "seconds": round(state.seconds, 2), "progress": 1.0, "finished": True}
    state.stage, state.step, state.seconds = stage + 1, 0, 0.0
    state.optimizer, state.average, state.trained = None, None, []
    yield row


def freeze(parameters):
    for p in parameters:
        p.requires_grad_(False)


@contextmanager
def averaged(state):
    """Within the block, the parameters in training hold their averaged values."""
    live = [p.detach().clone() for p in state.trained]
    with torch.no_grad():
        for p, average in zip(state.trained, state.average or [], strict=True):
            p.copy_(average)
        yield
        for p, value in zip(state.trained, live, strict=True):
            p.copy_(value)


def pick_device(name):
    """A torch.device for --device; auto takes a GPU where there is one. Raises InputError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: cannot be used here ({str(error).splitlines()[0][:100]}); try --device auto") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return device


def generator_of(key, device):
    """A torch.Generator seeded by a list of whole numbers."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)


# ----------------------------------------------------------- several processes


def process():
    """(rank, number of processes)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def agree(value, device):
    """The first process's value, in every process: clocks differ, and all must stop at the same step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def average_gradients(parameters, world):
    """Mean of the gradients over all processes, in place. With equal shards that is the gradient of the global batch."""
    if world == 1:
        return
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, mean in zip(parameters, (flat / world).split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(mean.view_as(p))


# ------------------------------------------------------------------ a whole run


def faster_precision(device):
    """"bf16" where a matrix product in it is at least 1.3 times as fast as in fp32 on this device, else "fp32"."""
    seconds = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(1024, 1024, dtype=dtype, device=device)
        times = []
        for _ in range(6):
            started = time.perf_counter()
            float((a @ a)[0, 0])  # waits for the result
            times.append(time.perf_counter() - started)
        seconds[name] = min(times)
    return "bf16" if seconds["fp32"] > 1.3 * seconds["bf16"] else "fp32"


def build(args):
    """(policy, training windows, held-out windows) from the flags. Raises InputError for bad input."""
    changes = {"cameras": tuple(args.cameras)} if args.cameras else {}
    changes |= {"image_size": args.image_size} if args.image_size else {}
    changes |= {"predict": args.predict} if args.predict else {}
    shape = Config(**(PRESETS[args.preset] | changes))
    if args.video_horizon is not None:
        if args.video_horizon % shape.video_stride or args.video_horizon < shape.video_stride:
            raise InputError(f"--video-horizon: {args.video_horizon} is no multiple of the stride of {shape.video_stride} control steps")
        shape = dataclasses.replace(shape, video_frames=args.video_horizon // shape.video_stride)
    train, valid = [], []
    for task, path in find_files(args.data, args.tasks).items():
        clips = read_clips(path, task, cameras=shape.cameras, size=shape.image_size, demos=args.demos, prompt=args.prompt)
        train += clips[0]
        valid += clips[1]
    sizes = {clip.actions.shape[1] for clip in train if clip.actions is not None}
    if len(sizes) != 1:
        raise InputError(f"--data {args.data}: field actions has {sorted(sizes) or 'no'} sizes over the demos; exactly one is needed")
    shape = dataclasses.replace(shape, action_size=sizes.pop())

    def windows(clips):
        c = shape
        return Windows(
            clips, video_frames=c.video_frames, video_stride=c.video_stride, action_horizon=c.action_horizon, action_size=c.action_size
        )

    measured = statistics(windows(train))
    relative = PREDICT[shape.predict][0]
    stats = measured | {"video_std": measured["change_std" if relative else "frame_std"]}
    torch.manual_seed(args.seed)  # initial weights
    policy = VideoPolicy(shape, vocabulary([clip.prompt for clip in train]), stats)
    return policy, windows(train), windows(valid or train)


def start_run(folder):
    """Make the run folder. One that holds anything but a run killed before its first save is never written over."""
    taken = folder.exists() and (not folder.is_dir() or {f.name for f in folder.iterdir()} - {"args.json", "log.csv", "samples"})
    if taken:
        raise InputError(f"--run {folder}: is taken; continue it with --resume or choose another name")
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "log.csv").unlink(missing_ok=True)


def restore(folder, policy, state, device):
    """Load resume.pt into policy and state."""
    saved = load_file(folder / "resume.pt", device)
    try:
        policy.load_state_dict(saved["weights"])
        for name in ("stage", "step", "seconds", "optimizer", "average"):
            setattr(state, name, saved[name])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}/resume.pt: does not fit the flags in args.json ({reason}); start a new run") from None


def save(folder, policy, state):
    """policy.pt, the averaged weights to act with, and resume.pt, all that a killed run needs to go on."""
    optimizer = state.optimizer.state_dict() if state.optimizer is not None else None
    resume = {"weights": policy.state_dict(), "optimizer": optimizer, "average": state.average}
    save_file(resume | {"stage": state.stage, "step": state.step, "seconds": state.seconds}, folder / "resume.pt")
    with averaged(state):
        policy.save(folder / "policy.pt")


class Log:
    """log.csv: one row per step, with the held-out measures on the rows where they were taken."""

    def __init__(self, path, state):
        kept = []
        if path.exists():  # a resumed run: drop the rows that the last save does not know of
            with open(path, newline="") as file:
                kept = [r for r in csv.DictReader(file) if (int(r["stage"]), int(r["step"])) <= (state.stage, state.step)]
        self.file = open(path, "w", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, extrasaction="ignore")
        self.writer.writeheader()
        self.writer.writerows(kept)

    def write(self, row):
        self.writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self.file.flush()


def parse(argv):
    parser = Parser(prog="train.py", description="Train a Video Policy on demonstration files; see the top of train.py for examples.")
    parser.add_argument("--run", type=Path, required=True, help="folder to make and fill")
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="size of the networks: tiny for a laptop, base for a GPU")
    parser.add_argument("--method", choices=METHODS, default="two_stage", help="two_stage: learn to dream, freeze, learn to act")
    parser.add_argument("--data", type=Path, default=Path("demos"), help="folder of <Task>.hdf5 files, or one robomimic file")
    parser.add_argument("--tasks", nargs="+", default=["all"], metavar="TASK", help="which of them, or all that are there")
    parser.add_argument("--demos", type=whole(1), help="take the first so many demos of each file (default: all)")
    parser.add_argument("--cameras", nargs="+", metavar="CAMERA", help="as named in the file, obs/<CAMERA>_image (default: the preset's)")
    parser.add_argument("--image-size", type=whole(16, 1024), help="rows and columns the policy sees; frames are resized (default: the preset's)")
    parser.add_argument("--prompt", help="the sentence to use where it is not the file's own")
    parser.add_argument("--video-horizon", type=whole(1, 512), help="control steps dreamed ahead (default: the preset's)")
    parser.add_argument("--predict", choices=PREDICT, help="what the video network is asked for (default: the preset's)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=positive, help="wall time of the training, all stages together (default: 7 where no --steps)")
    budget.add_argument("--steps", type=whole(2), help="steps of the training, all stages together")
    parser.add_argument("--seed", type=whole(0, 2**31), default=0, help="initial weights, data order and noise")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU where there is one")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto", help="auto measures which is faster here")
    parser.add_argument("--threads", type=whole(1, 1024), help="CPU threads (default: torch's choice)")
    parser.add_argument("--save-every", type=positive, default=60.0, metavar="SECONDS", help="a kill loses at most this much")
    parser.add_argument("--look-every", type=positive, default=60.0, metavar="SECONDS", help="between looks at the held-out windows")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run, with the flags that it was started with")
    args = parser.parse_args(argv)
    if args.resume:
        args = resumed_flags(parser, args, argv)
    elif args.minutes is None and args.steps is None:
        args.minutes = 7.0
    return args


FREE_ON_RESUME = ("resume", "run", "data", "device", "threads", "save_every", "look_every")  # these do not change the result


def resumed_flags(parser, args, argv):
    """The flags in args.json; one given anew must agree with it."""
    path = args.run / "args.json"
    try:
        saved = json.loads(path.read_text())
        paths = {"run": Path(saved["run"]), "data": Path(saved["data"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: missing or damaged, so there is nothing to resume; start the run without --resume") from None
    parser.set_defaults(**(saved | paths))
    merged = parser.parse_args(argv)
    for name, value in saved.items():
        if name not in FREE_ON_RESUME and getattr(merged, name, value) != value:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: the run in {args.run} was started with {value}; leave the flag out or start a new run")
    return merged


def main(argv=None):
    args = parse(argv)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, world = process()
    device = pick_device(args.device)
    recipe, state = RECIPES[args.preset], State()
    if recipe.batch_size % world:
        raise InputError(f"torchrun --nproc_per_node: {world} processes do not divide the batch of {recipe.batch_size}")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    policy, windows, held_out = build(args)
    policy.to(device)
    if args.precision == "auto":
        args.precision = faster_precision(device)
    if args.resume:
        restore(args.run, policy, state, device)
    elif rank == 0:
        start_run(args.run)
        flags = vars(args) | {"run": str(args.run), "data": str(args.data), "trained_tasks": windows.tasks}
        (args.run / "args.json").write_text(json.dumps(flags, indent=1))

    loop = METHODS[args.method](
        policy, windows, recipe, Budget(args.steps, args.minutes), state, seed=args.seed, precision=args.precision
    )
    if rank > 0:
        for _ in loop:
            pass
        return
    millions = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in (("U-Net", policy.unet), ("head", policy.head))}
    print(
        f"{len(windows)} windows of {len(windows.clips)} demos, {len(held_out)} held out; {args.precision} on {device}, "
        f"{torch.get_num_threads()} threads; " + ", ".join(f"{name} {m:.1f} M parameters" for name, m in millions.items())
    )
    watch(loop, args.run, held_out, policy, state, device, args)
    plot_curves(args.run / "log.csv", args.run / "curves.png")
    print(f"wrote {args.run}/policy.pt, log.csv, curves.png and samples/")


def watch(loop, run_folder, held_out, policy, state, device, args):
    """Drive the loop: a progress bar per stage, the log, looks at the held-out windows, saves."""
    log = Log(run_folder / "log.csv", state)
    saved = looked = time.monotonic()
    bar = None
    for row in loop:
        finished, now = "finished" in row, time.monotonic()
        bar = bar or tqdm(total=1.0, desc=STAGES[row["stage"]], bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}")
        bar.set_postfix_str(f"step {row['step']} " + " ".join(f"{k} {row[k]:.4f}" for k in ("video", "action") if k in row), refresh=False)
        bar.update(row["progress"] - bar.n)
        if finished or now - looked > args.look_every:
            with averaged(state):
                numbers, pictures = dream_error(policy, held_out, device)
            row |= numbers
            save_strip(run_folder / "samples" / f"stage{row['stage'] + 1}_step{row['step']:06d}.png", *pictures)
            tqdm.write(
                f"{STAGES[row['stage']]} step {row['step']}: dream {numbers['psnr_dream']:.1f} dB, one pass {numbers['psnr_mean']:.1f} dB, "
                f"nothing moves {numbers['psnr_still']:.1f} dB; action error {numbers['action_error']:.3f}"
            )
            looked = time.monotonic()
        log.write(row)
        if finished or now - saved > args.save_every:
            save(run_folder, policy, state)
            saved = time.monotonic()
        if finished:
            bar.close()
            bar = None


if __name__ == "__main__":
    run(main, *MISTAKES)
