"""What this machine does: training throughput, decisions, frames, demonstrations, memory; as a table and as JSON.

python -m tools.bench                              # about a minute
python -m tools.bench --preset base --device cuda --no-sim       # a GPU box without a simulator
"""

import os
import resource
import time
from pathlib import Path

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from training.config import TRAIN_PRESETS
from training.device import autocast, faster_precision, pick_device, processor
from training.noise import draw_noise
from training.optimizers import make_optimizers
from util.cli import Parser, command
from util.files import check_writable, write_json
from videopolicy import PRESETS, Batch, Config, VideoPolicy

EXECUTED = 16 / 20  # seconds of robot time that one decision covers: 16 steps at 20 Hz


def timed(work, threads=None, at_least=4.0):
    """Median seconds of work(), called again and again for `at_least` seconds."""
    timer = Timer("work()", globals={"work": work}, num_threads=threads or torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=at_least).median


def random_batch(config, size):
    """Random pixels and actions of the right shapes; the time of a step does not depend on their values."""
    views = (len(config.cameras), 3, config.image_size, config.image_size)
    return Batch(
        current=torch.randint(256, (size, *views), dtype=torch.uint8),
        future=torch.randint(256, (size, config.video_frames, *views), dtype=torch.uint8),
        actions=torch.rand(size, config.action_horizon, config.action_size) * 2 - 1,
        pad=torch.zeros(size, config.action_horizon, dtype=torch.bool),
        prompts=["close the drawer"] * size,
    )


def networks(preset, device):
    """Throughput of stage 1, and milliseconds per decision, of a preset in the precision that is faster here."""
    network, config, precision = Config(**PRESETS[preset]), TRAIN_PRESETS[preset], faster_precision(device)
    stats = {"video_std": 0.3, "action_low": -torch.ones(7), "action_high": torch.ones(7)}
    policy = VideoPolicy(network, ("close", "drawer", "the"), stats).to(device)
    batch, rng = random_batch(network, config.batch_size).to(device), torch.Generator(device).manual_seed(0)
    parameters = policy.generator_parameters()
    optimizers = make_optimizers(policy, {"generator": parameters}, config)

    def gradients():
        with autocast(device, precision):
            loss, _ = policy.video_loss(batch, draw_noise(network, config.batch_size, rng))
        policy.zero_grad()
        loss.backward()

    def update():
        for optimizer in optimizers:
            optimizer.step()

    with FlopCounterMode(display=False) as counter:
        gradients()
    to_gradients = timed(gradients)
    a = torch.randn(2048, 2048, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    product_rate = 2 * len(a) ** 3 / timed(lambda: a @ a)
    frames, prompt = batch.current[:1], batch.prompts[:1]
    decision = timed(lambda: policy.act(frames, prompt, rng), threads=1)
    ten_passes = timed(lambda: policy.act(frames, prompt, rng, video_steps=9), threads=1)
    to_update = timed(update)  # last: so many steps in one direction spoil the weights
    step = to_gradients + to_update
    return {
        "precision": precision,
        "generator_parameters": sum(p.numel() for p in parameters),
        "head_parameters": sum(p.numel() for p in policy.head.parameters()),
        "steps_per_second": 1 / step,
        "windows_per_second": config.batch_size / step,
        "share_of_step_in_optimizer": to_update / step,
        "training_gflops": counter.get_total_flops() / step / 1e9,
        "matrix_product_gflops": product_rate / 1e9,
        "share_of_matrix_product_rate": counter.get_total_flops() / step / product_rate,
        "ms_per_decision_one_pass": 1000 * decision,
        "ms_per_decision_ten_passes": 1000 * ten_passes,
        "times_faster_than_real_time": EXECUTED / decision,
    }


def robosuite_frame(size=64):
    """Milliseconds of a frame of the arm at its table as robosuite draws it, from where our front camera is."""
    from sim import appearance, backend

    mujoco, robosuite = backend.load()
    env = robosuite.make("Lift", robots="Panda", camera_names="frontview")
    env.reset()
    camera = env.sim.model._model.camera("frontview")
    camera.pos[:], target, camera.fovy[:] = appearance.CAMERAS["front"]
    mujoco.mju_mat2Quat(camera.quat, appearance.look_at(camera.pos, target).ravel())
    env.sim.forward()
    milliseconds = 1000 * timed(lambda: env.sim.render(size, size, camera_name="frontview"), at_least=2.0)
    env.close()
    return milliseconds


def simulator(demos=6):
    """Milliseconds per frame beside robosuite's default, and demonstrations per minute of one process."""
    from sim.env import TaskEnv
    from sim.record import record

    default_ms = robosuite_frame()  # before ours exists: robosuite draws into whichever OpenGL context was used last
    env = TaskEnv("CloseDrawer")
    env.reset(seed=0)
    ours_ms = 1000 * timed(env.observe, at_least=0.3)
    record(env, 0)  # the first builds caches
    started = time.perf_counter()
    made = [demo for seed in range(1, 1 + demos) if (demo := record(env, seed)) is not None]
    seconds = time.perf_counter() - started
    env.close()
    return {
        "ms_per_frame": ours_ms,
        "ms_per_frame_robosuite_default": default_ms,
        "times_faster_frames": default_ms / ours_ms,
        "demos_per_minute_one_process": 60 * len(made) / seconds,
        "control_steps_with_frame_per_second": sum(demo[0]["num_samples"] for demo in made) / seconds,
    }


def main(argv=None):
    parser = Parser(prog="bench.py", description="Measure this machine; run it with nothing else running.")
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="size of the networks")
    parser.add_argument("--device", default="auto", help="cpu, cuda ...; auto takes a GPU where there is one")
    parser.add_argument("--no-sim", action="store_true", help="leave the simulator out")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the numbers go")
    args = parser.parse_args(argv)

    check_writable(args.out)
    device = pick_device(args.device)
    cuda = device.type == "cuda"
    found = {
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "preset": args.preset,
        "torch": torch.__version__,
    }
    found |= networks(args.preset, device)
    if not args.no_sim:
        found |= simulator()
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if cuda:
        found["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    for key, value in found.items():
        print(f"{key.replace('_', ' '):38} {f'{value:.3g}' if isinstance(value, float) else value}")
    write_json(args.out, found)


if __name__ == "__main__":
    command(main)
