"""A peer, side by side: lerobot's Diffusion Policy, trained from scratch on our demonstrations, in the same scenes.

    pip install lerobot==0.4.4                # no requirement of this project
    python -m tools.peer --task OpenDrawer --data demos100 --steps 1600 --run runs/peer
    python -m tools.peer --task OpenDrawer --data demos100 --steps 6400 --lr 3e-4 --bf16 --run runs/longer

Its networks are lerobot's: a ResNet18 and a 1D U-Net (Chi et al., arXiv 2303.04137), of a size that a CPU can train,
with lerobot's optimizer and schedule. It sees two frames, as by default, where ours sees one, and reads no sentence:
take a task whose scene tells all. Training is counted in steps; the CPU seconds that it took are told, to be held
against those of train.py. Writes policy.pt and result.json.
"""

import math
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from tqdm import tqdm, trange

from data.robomimic import find_files, read_clips
from model.checkpoint import save_file
from sim.env import ACTION_DIM, TaskEnv
from sim.record import EPISODES_PER_SEED, evaluation_seed
from sim.tasks import TASKS
from util.cli import Parser, command, frame_size, int_range, positive_float, wilson
from util.files import InputError, write_json

HORIZON, EXECUTE, DECISION_STEPS, BATCH = 32, 16, 10, 8  # as ours: actions in a chunk and executed, windows of a step
SENSES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")  # what --proprio adds, 9 numbers


def read_demos(path, size, count):
    """[(frames (N, 3, H, W) uint8, senses (N, 9), actions (N, A)), ...] of the training demos of our own file."""
    clips, _ = read_clips(path, path.stem, cameras=("front",), size=size, demos=count)
    names = [f"demo_{i}" for i in range(count) if (i + 1) % 10]  # every tenth is held out
    demos = []
    with h5py.File(path) as file:
        for name, clip in zip(names, clips, strict=True):
            proprio = np.concatenate([file[f"data/{name}/obs/{key}"][()] for key in SENSES], axis=1)
            demos.append((clip.frames[:, 0], proprio, clip.actions))
    return demos


def make_policy(size, proprio, lr):
    """lerobot's Diffusion Policy, untrained. InputError where lerobot is not installed."""
    try:
        from lerobot.configs.types import FeatureType, PolicyFeature
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
        from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
    except ImportError as error:
        raise InputError(f"lerobot: cannot be imported ({error}); pip install lerobot==0.4.4") from None
    state = 9 if proprio else 1  # it insists on a state; without proprioception it is a constant
    config = DiffusionConfig(
        input_features={
            "observation.images.front": PolicyFeature(type=FeatureType.VISUAL, shape=(3, size, size)),
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(state,)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(ACTION_DIM,))},
        device="cpu", horizon=HORIZON, n_action_steps=EXECUTE, drop_n_last_frames=0, down_dims=(64, 128, 256),
        crop_shape=None, noise_scheduler_type="DDIM", num_inference_steps=DECISION_STEPS, optimizer_lr=lr,
        do_mask_loss_for_padding=True,
    )  # fmt: skip
    return DiffusionPolicy(config)


class LinearNormalizer:
    """Numbers to [-1, 1] by the range they have in the demonstrations, and back."""

    def __init__(self, rows):
        low, high = (torch.tensor(f(rows, axis=0), dtype=torch.float32) for f in (np.min, np.max))
        self.middle, self.half = (high + low) / 2, ((high - low) / 2).clamp(min=1e-6)

    def normalize(self, x):
        return (torch.as_tensor(np.asarray(x), dtype=torch.float32) - self.middle) / self.half

    def unnormalize(self, x):
        return x * self.half + self.middle


def observation(frames, proprio, normalizer):
    """Frames (..., 3, H, W) uint8 and proprio (..., 9), without a normalizer a constant, as lerobot wants them."""
    pictures = torch.as_tensor(np.ascontiguousarray(frames)).float() / 127.5 - 1
    state = torch.zeros(*pictures.shape[:-3], 1) if normalizer is None else normalizer.normalize(proprio)
    return {"observation.images.front": pictures, "observation.state": state}


def batch_of(demos, index, proprio_normalizer, action_normalizer, rng):
    """Training windows as lerobot's forward wants them: two observations, and the actions from the first one on."""
    rows = []
    for i in rng.integers(len(index), size=BATCH):
        d, now = index[i]
        frames, proprio, actions = demos[d]
        seen = [max(now - 1, 0), now]
        steps = now - 1 + np.arange(HORIZON)  # lerobot's chunk begins at the earlier of the two observations
        pad = (steps < 0) | (steps >= len(actions))
        chunk = action_normalizer.normalize(actions[steps.clip(0, len(actions) - 1)])
        seen = observation(frames[seen], proprio[seen], proprio_normalizer)
        rows.append(seen | {"action": chunk, "action_is_pad": torch.tensor(pad)})
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def train(policy, demos, proprio_normalizer, action_normalizer, steps, seed, bf16):
    """lerobot's recipe: AdamW with a warmup and a cosine -> seconds it took."""
    rng, started = np.random.default_rng(seed), time.process_time()
    index = [(d, now) for d, (_, _, actions) in enumerate(demos) for now in range(len(actions))]
    c = policy.config
    optimizer = torch.optim.AdamW(policy.parameters(), c.optimizer_lr, c.optimizer_betas, c.optimizer_eps,
                                  c.optimizer_weight_decay)  # fmt: skip
    warmup = min(c.scheduler_warmup_steps, steps // 10)
    policy.train()
    bar = trange(steps, desc="diffusion policy")
    for step in bar:
        cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = c.optimizer_lr * min((step + 1) / (warmup + 1), cosine)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, _ = policy.forward(batch_of(demos, index, proprio_normalizer, action_normalizer, rng))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)
    return time.process_time() - started


def rollout(policy, env, seed, proprio_normalizer, action_normalizer):
    """One episode in the scene of `seed`, 16 actions of each chunk executed -> (success, ms of each decision)."""
    env.reset(seed)
    policy.reset()
    policy.eval()
    torch.manual_seed(seed)  # lerobot draws its noise from the ambient generator
    milliseconds = []
    while not env.ended():
        started = time.perf_counter()
        proprio = env.proprio()
        proprio = np.concatenate([proprio[key] for key in SENSES])
        action = policy.select_action(observation(env.observe(), proprio[None], proprio_normalizer))
        if env.timestep % EXECUTE == 0:
            milliseconds.append(1000 * (time.perf_counter() - started))
        env.step(action_normalizer.unnormalize(action[0].clamp(-1, 1)).double().numpy())
    return env.success(), milliseconds


def main():
    parser = Parser(prog="peer.py", description="Train and try lerobot's Diffusion Policy.", epilog=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder to make and fill")
    add("--data", type=Path, required=True, help="folder of demonstrations of sim.demos")
    add("--task", choices=TASKS, default="OpenDrawer", metavar="TASK", help="the one task that it learns")
    add("--demos", type=int_range(10), default=100, help="the first so many; every tenth is held out")
    add("--image-size", type=frame_size, default=64, help="side of the frames")
    add("--proprio", action="store_true", help="hand and fingers as an input beside the frames")
    add("--bf16", action="store_true", help="train in mixed precision, as train.py does where that is faster")
    add("--steps", type=int_range(1), default=1600, help=f"of {BATCH} windows each")
    add("--lr", type=positive_float, default=1e-4, help="highest learning rate; lerobot's default")
    add("--episodes", type=int_range(1, EPISODES_PER_SEED), default=50, help="scenes to try it in")
    add("--eval-seed", type=int_range(0, 1000), default=0, help="which scenes: those of evaluate.py --seed")
    add("--seed", type=int_range(0), default=0, help="of initial weights, data order and noise")
    args = parser.parse_args()
    if args.run.exists():
        raise InputError(f"--run {args.run}: is there already; choose another name or move it away")
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)  # of the initial weights, and of the noise that lerobot draws by itself
    policy = make_policy(args.image_size, args.proprio, args.lr)
    demos = read_demos(find_files(args.data, [args.task])[args.task], args.image_size, args.demos)
    action_normalizer = LinearNormalizer(np.concatenate([actions for *_, actions in demos]))
    proprio_normalizer = LinearNormalizer(np.concatenate([p for _, p, _ in demos])) if args.proprio else None
    args.run.mkdir(parents=True)
    seconds = train(policy, demos, proprio_normalizer, action_normalizer, args.steps, args.seed, args.bf16)
    save_file({"weights": policy.state_dict()}, args.run / "policy.pt")

    env, won, milliseconds = TaskEnv(args.task, size=args.image_size), [], []
    for i in tqdm(range(args.episodes), desc="evaluating", unit="episode"):
        scene = evaluation_seed(i, args.eval_seed)
        success, times = rollout(policy, env, scene, proprio_normalizer, action_normalizer)
        won.append(success)
        milliseconds += times
    low, high = wilson(sum(won), len(won))
    decision, size = float(np.median(milliseconds)), sum(p.numel() for p in policy.parameters())
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    result = {"flags": flags, "parameters": size, "cpu_seconds": round(seconds), "ms_per_decision": round(decision, 1)}
    write_json(args.run / "result.json", result | {"won": sum(won), "episodes": len(won)})
    print(f"{args.task}: {sum(won)}/{len(won)} = {sum(won) / len(won):.2f}, 95 % interval [{low:.2f}, {high:.2f}]")
    print(f"{size / 1e6:.1f} M parameters, {seconds:.0f} s of training, {decision:.0f} ms per decision (median)")


if __name__ == "__main__":
    command(main)
