"""The batches of a training stage, each made ready while the one before it trains."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

from training.distributed import rank_and_world
from videopolicy import collate


def batches(windows, size, key, first, device):
    """The batches of steps first, first + 1, ... without end: this process's share of `size` windows, on the device.

    windows: drawn by [*key, step] alone. One thread reads and stacks the next batch, and starts to copy it to a GPU,
    while the caller computes.
    """
    rank, world = rank_and_world()

    def make(step):
        batch = collate([windows[i] for i in windows.draw(size, [*key, step])[rank::world]])
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(make, first)
        for step in count(first + 1):
            batch = upcoming.result()
            upcoming = pool.submit(make, step)
            yield batch.to(device)
