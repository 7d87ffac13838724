"""What else actions can be read from: features at another noise level, or those of the expert's video of the scene.

    python -m ablations.readout --run runs/close_drawer --video-steps 10 --read-sigma 0.5
    python -m ablations.readout --run runs/close_drawer --oracle feed --read-sigma 0.5    # read the expert's video
    python -m ablations.readout --run runs/close_drawer --oracle score                    # measure the generated one

All other flags, and the scenes, are those of evaluate.py. Writes eval_readout.json (every episode) into the run folder.
"""

import statistics
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import nn

from evaluate import Episode, EvalConfig, closed_loop, evaluate, parse, table, trained_tasks
from model.diffusion import add_noise, schedule
from sim.experts import expert
from sim.tasks import TASKS
from training.device import pick_device
from util.cli import Parser, choose_tasks, command
from util.figures import squared_error
from util.files import InputError, write_json
from videopolicy import VideoPolicy, to_float, to_uint8


@dataclass
class ScoredEpisode(Episode):
    """An episode with the normalised MSE of its generated videos: 0 is right, 1 no better than copying the frame."""

    first_video_error: float | None = None  # at the first decision, before the policy has changed anything
    video_error: float | None = None  # over all decisions; None where nothing was going to move


class ReadAt(VideoPolicy):
    """A policy whose last denoising step is at another noise level than the lowest; it shares the policy's weights."""

    def __init__(self, policy, sigma):
        nn.Module.__init__(self)
        self.__dict__.update(policy.__dict__)
        self.read_sigma = sigma

    def video_sigmas(self, steps):
        return schedule(steps, self.read_sigma, self.config.sigma_max)


@torch.no_grad()
def act_on(policy, frames, prompts, future, sigma, rng):
    """VideoPolicy.act with a given future (B, T, V, 3, H, W) uint8: one pass over it, with noise of level sigma."""
    current = to_float(frames, rng.device)
    y = policy.normalize_video(to_float(future, rng.device), current)
    sigma = torch.full((len(prompts),), sigma, device=rng.device)
    x = add_noise(y, sigma, torch.randn(y.shape, generator=rng, device=rng.device))
    prompt = policy.encode_prompts(prompts, torch.zeros(len(prompts), dtype=torch.bool, device=rng.device))
    denoised, maps = policy.denoise_video(x, sigma, current, prompt)
    return policy.decode_actions(maps, rng), to_uint8(policy.unnormalize_video(denoised, current))


class WithExpert:
    """Acts in place of a policy in a scene of which the expert's video is known: to score its video, or to be read.

    feed: the noise level at which the expert's video is read; None: the policy acts on its own video.
    """

    def __init__(self, policy, env, seed, shift="none", feed=None):
        self.policy, self.env, self.feed = policy, env, feed
        self.config, self.errors = policy.config, []  # errors: of each decision that of its video, and of copying
        env.reset(seed, shift)
        self.frames, self.qpos = [env.observe()], [env.sim.data.qpos.copy()]
        for action in islice(expert(env), env.task.horizon):  # some experts try again until the goal holds
            env.step(action)
            self.frames.append(env.observe())
            self.qpos.append(env.sim.data.qpos.copy())

    def ahead(self):
        """The frames that follow where the expert was closest to the present state, over all joint positions, radians
        and metres alike: (T, V, 3, H, W) uint8. Past its end the last one is held.

        By place and not by time: a robot that is late is shown what comes next, not what it has missed.
        """
        now = np.abs(np.stack(self.qpos) - self.env.sim.data.qpos).sum(axis=1).argmin()
        steps = now + self.config.video_stride * np.arange(1, self.config.video_frames + 1)
        return np.stack([self.frames[min(step, len(self.frames) - 1)] for step in steps])

    def act(self, frames, prompts, rng, video_steps=0, guidance=1.0):
        """VideoPolicy.act for one scene, that of the environment."""
        future = self.ahead()[None]
        if self.feed is None:
            actions, video = self.policy.act(frames, prompts, rng, video_steps, guidance)
        else:
            actions, video = act_on(self.policy, frames, prompts, future, self.feed, rng)
        self.errors.append((squared_error(video.cpu().numpy(), future), squared_error(frames[:, None], future)))
        return actions, video


def normalized_mse(errors):
    """Squared error of videos over that of copying the current frame, from pairs of both; None where nothing moves."""
    videos, copies = (sum(column) for column in zip(*errors, strict=True))
    return round(videos / copies, 4) if copies > 0 else None


def rollout(env, policy, seed, config, film=False, oracle=None, read_sigma=None):
    """evaluate.rollout without a film: one episode -> (ScoredEpisode, milliseconds of each decision, [])."""
    actor = policy
    if oracle:
        feed = (read_sigma or policy.config.sigma_min) if oracle == "feed" else None
        actor = WithExpert(policy, env, seed, config.shift, feed)
    elif read_sigma:
        actor = ReadAt(policy, read_sigma)
    env.reset(seed, config.shift)
    milliseconds = [one.milliseconds for one, k in closed_loop(env, actor, seed, config, env.prompt) if k == 1]
    episode = ScoredEpisode(env.task.name, seed, env.success(), env.timestep)
    if oracle:
        episode.first_video_error, episode.video_error = map(normalized_mse, (actor.errors[:1], actor.errors))
    return episode, milliseconds, []


def main(argv=None):
    parser = Parser(prog="python -m ablations.readout", description="Evaluate other readouts.", epilog=__doc__)
    parser.add_argument("--oracle", choices=("score", "feed"), help="what the expert's video of a scene is for")
    parser.add_argument("--read-sigma", type=float, help="noise level of what is read (default: the lowest)")
    own, others = parser.parse_known_args(argv)
    args, oracle, sigma = parse(others), own.oracle, own.read_sigma
    c = VideoPolicy.load(args.run / "policy.pt").config
    if oracle and c.video_stride == 0:
        raise InputError(f"--oracle {oracle}: this policy generates no video (video horizon 0)")
    if sigma is not None and not c.sigma_min <= sigma < c.sigma_max:
        raise InputError(f"--read-sigma: {sigma:g} is out of range: {c.sigma_min:g} to below {c.sigma_max:g}")
    tasks = choose_tasks(args.tasks or trained_tasks(args.run), TASKS)
    args.device = str(pick_device(args.device))
    config = EvalConfig(**{name: getattr(args, name) for name in EvalConfig.__dataclass_fields__})
    how = {"workers": args.workers, "films": 0, "rollout": partial(rollout, oracle=oracle, read_sigma=sigma)}
    episodes, milliseconds, _ = evaluate(args.run / "policy.pt", tasks, args.episodes, config, seed=args.seed, **how)
    protocol = asdict(config) | vars(own) | {"seed": args.seed}
    timing = {"ms_per_decision": round(statistics.median(milliseconds), 1)}
    every = [asdict(episode) for episode in episodes]
    out = args.run / (args.out or "eval_readout.json")
    write_json(out, {"protocol": protocol, "timing": timing, "episodes": every})
    for task, count, n, low, high in table(episodes):
        print(f"{task}: {count}/{n} = {count / n:.2f}, 95 % interval [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    command(main)
