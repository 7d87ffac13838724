"""The machine under the training loop: device, precision, seeded generators, several processes."""

import os
import time

import numpy as np
import torch
import torch.distributed as dist

from sim.cli import InputError


def pick_device(name):
    """A torch.device for --device; auto takes a GPU where there is one. Raises InputError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("not a kind of device that this project was written for")
        if device == torch.device("cuda"):  # under torchrun each process has a card of its own
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:100]
        raise InputError(f"--device {name}: cannot be used here ({reason}); try --device auto") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def faster_precision(device):
    """Name of the faster of two: bf16 where its matrix products take less than 1 / 1.3 of fp32's time, else fp32."""
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


def generator_of(key, device="cpu"):
    """A torch.Generator that is a function of `key`, a sequence of whole numbers."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)


# ----------------------------------------------------------- several processes


def join_processes(device):
    """Under torchrun, meet the other processes. Returns (rank, number of processes), (0, 1) without torchrun."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return process()


def process():
    """(rank, number of processes)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def agree(value, device):
    """The first process's number, in every process: clocks differ, and all must stop at the same step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def average_gradients(parameters):
    """Mean of the gradients over all processes, in place: with equal shards, the gradient of the global batch."""
    _, world = process()
    if world == 1:
        return
    parameters = [p for p in parameters if p.grad is not None]  # without a video loss some get none
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, mean in zip(parameters, (flat / world).split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(mean.view_as(p))


def gather(tensor):
    """What all processes have of a batch that they split as batch[rank::world], put together in its order."""
    _, world = process()
    if world == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
