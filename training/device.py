"""Where to compute and how: device, precision, seeded generators; several processes under torchrun."""

import os
import timeit
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist

from util.files import InputError, brief


def pick_device(name):
    """A torch.device for --device; auto takes a GPU where there is one. Raises InputError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device == torch.device("cuda"):  # under torchrun each process has a card of its own
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: cannot be used here ({brief(error)}); try --device auto") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def faster_precision(device):
    """Name of the faster of two: bf16 where its matrix products take less than 1 / 1.3 of fp32's time, else fp32."""
    seconds = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(1024, 1024, dtype=dtype, device=device)
        seconds[name] = min(timeit.repeat(lambda a=a: float((a @ a)[0, 0]), number=1, repeat=6))  # float waits for it
    return "bf16" if seconds["fp32"] > 1.3 * seconds["bf16"] else "fp32"


def pick_precision(config, device):
    """The precision of a TrainConfig; "auto" is measured."""
    if config.precision != "auto":
        return config.precision
    return ("fp32", "bf16")[int(broadcast_from_rank0(faster_precision(device) == "bf16", device))]


def autocast(device, precision):
    """The context in which a network computes in this precision, "bf16" or "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def seeded_generator(key, device="cpu"):
    """A torch.Generator that is a function of `key`, a sequence of whole numbers."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)


def to_device(batch, device):
    """A batch on a device; cached features, kept in half precision, become float32."""
    moved = {name: value.to(device) for name, value in vars(batch).items() if torch.is_tensor(value)}
    return replace(batch, **moved, features=batch.features and [f.to(device).float() for f in batch.features])


def init_distributed(device):
    """Under torchrun, meet the other processes, which train on a share of each batch -> rank_and_world()."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return rank_and_world()


def rank_and_world():
    """(rank, number of processes); (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def broadcast_from_rank0(value, device):
    """The first process's number, in every process: all must stop at the same step, in the same precision."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def average_gradients(parameters):
    """Mean of the gradients over all processes, in place: with equal shards, the gradient of the global batch."""
    if not dist.is_initialized():
        return
    parameters = [p for p in parameters if p.grad is not None]  # without a video loss some get none
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, mean in zip(parameters, (flat / dist.get_world_size()).split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(mean.view_as(p))


def gather(tensor):
    """What all processes have of a batch that they split as batch[rank::world], put together in its order."""
    if not dist.is_initialized():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
