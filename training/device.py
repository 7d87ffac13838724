"""Where to compute and how: device, precision, seeded generators."""

import os
import platform
import timeit
from pathlib import Path

import numpy as np
import torch

from util.files import InputError


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
        seconds[name] = min(timeit.repeat(lambda a=a: float((a @ a)[0, 0]), number=1, repeat=6))  # float waits for it
    return "bf16" if seconds["fp32"] > 1.3 * seconds["bf16"] else "fp32"


def autocast(device, precision):
    """The context in which a network computes in this precision, "bf16" or "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def seeded_generator(key, device="cpu"):
    """A torch.Generator that is a function of `key`, a sequence of whole numbers."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)


def processor():
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
