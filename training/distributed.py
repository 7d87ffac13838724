"""Several processes under torchrun: the same training, a share of the batch each."""

import math
import os

import torch
import torch.distributed as dist


def init_distributed(device):
    """Under torchrun, meet the other processes. Returns (rank, number of processes), (0, 1) without torchrun."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return rank_and_world()


def rank_and_world():
    """(rank, number of processes)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def broadcast_from_rank0(value, device):
    """The first process's number, in every process: clocks differ, and all must stop at the same step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


class Stopped(Exception):
    """The run was asked to end by a signal; raised between two steps."""


def broadcast_or_stop(value, state, device):
    """broadcast_from_rank0; raises Stopped in every process once the first one was asked to end."""
    value = broadcast_from_rank0(math.inf if state.stop else value, device)
    if value == math.inf:
        raise Stopped
    return value


def average_gradients(parameters):
    """Mean of the gradients over all processes, in place: with equal shards, the gradient of the global batch."""
    _, world = rank_and_world()
    if world == 1:
        return
    parameters = [p for p in parameters if p.grad is not None]  # without a video loss some get none
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for p, mean in zip(parameters, (flat / world).split([p.numel() for p in parameters]), strict=True):
        p.grad.copy_(mean.view_as(p))


def gather(tensor):
    """What all processes have of a batch that they split as batch[rank::world], put together in its order."""
    _, world = rank_and_world()
    if world == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
