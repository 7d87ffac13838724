"""What else actions can be read from: features at another noise level, the expert's video, or the generated pixels.

    python -m ablations.readout --run runs/close_drawer --video-steps 10 --read-sigma 0.5
    python -m ablations.readout --run runs/close_drawer --oracle feed --read-sigma 0.5    # read the expert's video
    python -m ablations.readout --run runs/close_drawer --oracle score                    # measure the generated one
    python -m ablations.readout --run runs/close_drawer --pixels demos    # hand poses, estimated on the generated video

Scenes and other flags, but --films, are those of evaluate.py. Writes eval_readout.json, every episode.
"""

from copy import copy
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from data.poses import gripper_commands
from data.windows import PoseWindows
from evaluate import Episode, closed_loop, parse, run, trained_tasks
from model.diffusion import add_noise, schedule
from model.pose_estimator import OFFSETS, WIDEST, PoseEstimator
from sim.experts import expert
from sim.tasks import TASKS
from train import PRESETS, train_pose_estimator
from training.build import load_clips
from training.labels import estimate, make_estimator
from training.run import TrainState
from util.cli import Parser, choose_tasks, command, float_range
from util.figures import squared_error
from util.files import InputError, read_json
from videopolicy import VideoPolicy, to_float, to_uint8

load_estimator = cache(PoseEstimator.load)  # once in each worker process
BLUR = 1.5  # pixels: the standard deviation of the strongest blur that an estimator learns to see through


@dataclass
class ScoredEpisode(Episode):
    """An episode with the error of its first generated video: its MSE over that of copying the current frame."""

    first_video_error: float | None = None  # None where nothing was going to move


def read_at(policy, sigma):
    """The policy, but its last denoising step is at noise level sigma instead of the lowest; it shares the weights."""
    reader = copy(policy)
    reader.video_sigmas = lambda steps: schedule(steps, sigma, policy.config.sigma_max)
    return reader


class Expert:
    """The expert's episode of a scene. It can act in place of a policy, whose head then reads the expert's video, with
    noise of level sigma.
    """

    def __init__(self, env, seed, shift, policy, sigma):
        self.env, self.policy, self.config, self.sigma = env, policy, policy.config, sigma
        env.reset(seed, shift)
        self.frames, self.qpos = [env.observe()], [env.sim.data.qpos.copy()]
        for action in islice(expert(env), env.task.horizon):  # some experts try again until the goal holds
            env.step(action)
            self.frames.append(env.observe())
            self.qpos.append(env.sim.data.qpos.copy())

    def video(self):
        """The frames that follow where the expert was closest to the present state, over all joint positions, radians
        and metres alike: (T, V, 3, H, W) uint8. Past its end the last one is held.

        By place and not by time: a robot that is late is shown what comes next, not what it has missed.
        """
        now = np.abs(np.stack(self.qpos) - self.env.sim.data.qpos).sum(axis=1).argmin()
        steps = now + self.config.video_stride * np.arange(1, self.config.video_frames + 1)
        return np.stack([self.frames[min(step, len(self.frames) - 1)] for step in steps])

    @torch.no_grad()
    def act(self, frames, prompts, rng, *_):
        """VideoPolicy.act for this scene: one pass over the expert's video with noise."""
        policy, current = self.policy, to_float(frames, rng.device)
        y = policy.normalize_video(to_float(self.video()[None], rng.device), current)
        sigma = torch.full((1,), self.sigma, device=rng.device)
        x = add_noise(y, sigma, torch.randn(y.shape, generator=rng, device=rng.device))
        prompt = policy.encode_prompts(prompts, torch.zeros(1, dtype=torch.bool, device=rng.device))
        denoised, maps = policy.denoise_video(x, sigma, current, prompt)
        return policy.decode_actions(maps, rng), to_uint8(policy.unnormalize_video(denoised, current))


class BlurredWindows(PoseWindows):
    """Windows for an estimator of hand poses on generated video: frames as far apart, and as blurred, as there."""

    def __getitem__(self, i):
        blur = np.random.default_rng(i).uniform(0, BLUR)
        smooth = partial(gaussian_filter, sigma=blur, axes=(-2, -1))
        return {k: smooth(v) if k in ("current", "future") else v for k, v in super().__getitem__(i).items()}


class PixelReader:
    """A policy whose actions are the hand poses that an estimator sees in its generated video, as Liang et al.
    (2024, arXiv 2406.16862) do: nothing reads its features.
    """

    def __init__(self, policy, estimator):
        self.policy, self.config, self.estimator = policy, policy.config, estimator

    def act(self, frames, prompts, rng, video_steps=0, guidance=1.0):
        """VideoPolicy.act for one scene. The poses between two frames are interpolated."""
        c = self.config
        video, _ = self.policy.imagine(frames, prompts, rng, video_steps + 1, guidance)
        poses = estimate(self.estimator, np.concatenate([frames, video[0].cpu().numpy()]))  # (1 + T, 10)
        steps, known = np.arange(c.action_horizon), c.video_stride * np.arange(len(poses))
        chunk = np.stack([np.interp(steps + c.pose_lead * (a < 9), known, poses[:, a]) for a in range(10)], axis=1)
        begun_open = np.concatenate([np.full(5, WIDEST), chunk[:, 9]])  # so that fingers on a handle count as closed
        chunk[:, 9] = gripper_commands(begun_open)[5:]
        return torch.from_numpy(chunk)[None], video


def train_reader(run, data, tasks, path):
    """Train the pose estimator of a PixelReader for a run, on the demonstrations' own frames, with the run's seed and
    precision; write it to `path`.
    """
    config, made_by = VideoPolicy.load(run / "policy.pt").config, read_json(run / "args.json") or {}
    given = {k: made_by[k] for k in ("seed", "precision") if made_by.get(k) is not None}  # no --seed: null
    train_config = replace(PRESETS["tiny"][1], **given)
    clips, _ = load_clips(config, data, tasks)
    windows = BlurredWindows(clips, config, config.video_stride * np.array(OFFSETS), config.cameras)
    estimator = make_estimator(windows, train_config.seed)
    loop = train_pose_estimator(estimator, windows, train_config, TrainState())
    list(tqdm(loop, total=train_config.estimator_steps, desc="pose estimator"))
    estimator.save(path)


def rollout(env, policy, seed, config, film=False, oracle=None, read_sigma=None, reader=None):
    """evaluate.rollout without a film: one episode -> (ScoredEpisode, milliseconds of each decision, []). reader: the
    file of a PixelReader's estimator.
    """
    actor = read_at(policy, read_sigma) if read_sigma else policy
    if reader:
        actor = PixelReader(policy, load_estimator(reader))
    if oracle:
        true = Expert(env, seed, config.shift, policy, read_sigma or policy.config.sigma_min)
        actor = true if oracle == "feed" else policy
    env.reset(seed, config.shift)
    future = true.video() if oracle else None
    decisions = [decision for decision, k in closed_loop(env, actor, seed, config) if k == 1]
    episode = ScoredEpisode(env.task.name, seed, env.success(), env.timestep)
    if oracle == "score" and (copy := squared_error(decisions[0].frames[None], future)):
        episode.first_video_error = round(squared_error(decisions[0].video, future) / copy, 4)
    return episode, [decision.milliseconds for decision in decisions], []


def main(argv=None):
    parser = Parser(prog="python -m ablations.readout", description="Evaluate other readouts.", epilog=__doc__)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--oracle", choices=("score", "feed"), help="what the expert's video of a scene is for")
    parser.add_argument("--read-sigma", type=float_range(0.01, 10), help="noise level of what is read (the lowest)")
    one.add_argument("--pixels", metavar="FOLDER", help="read generated pixels; demos to learn that from")
    own, others = parser.parse_known_args(argv)
    args, reading = parse(others), {"oracle": own.oracle, "read_sigma": own.read_sigma}
    if own.read_sigma and own.oracle != "feed" and (own.oracle or own.pixels or not args.video_steps):
        raise InputError("--read-sigma: has no effect here; give --video-steps or --oracle feed, and no --pixels")
    args.out = args.out or "eval_readout.json"
    if own.pixels:
        tasks, out = choose_tasks(args.tasks or trained_tasks(args.run), TASKS), args.run / args.out
        reading["reader"] = out.with_name(f"{out.stem}_reader.pt")  # never policy.pt
        train_reader(args.run, Path(own.pixels), tasks, reading["reader"])
    run(args, partial(rollout, **reading), vars(own))


if __name__ == "__main__":
    command(main)
