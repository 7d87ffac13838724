"""Dreams as numbers and as pictures: PSNR against what really happened, strips, training curves, films."""

import io
from contextlib import contextmanager

import imageio.v2 as imageio
import numpy as np
import torch
from PIL import Image, ImageDraw

from util.files import write_file
from videopolicy import collate

STEPS = 8  # of the U-Net for a dream that is looked at or measured; acting needs one


def squared_error(a, b):
    """Mean squared difference of uint8 arrays that broadcast, over everything."""
    return float(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean())


def psnr(a, b):
    """Peak signal-to-noise ratio in dB of uint8 arrays of one shape."""
    return float(10 * np.log10(255**2 / max(squared_error(a, b), 1e-10)))


def held_out_measures(policy, windows, count=32, seed=0):
    """Held-out quality over `count` evenly spaced windows: a dict of numbers, and (batch, dream) to look at.

    video_psnr: the sampled video (STEPS passes) against the true future; video_psnr_one_step: the mean of the
    futures that one pass makes; copy_psnr: the copy-last-frame baseline, the current frame repeated; action_error: mean absolute
    error of the decided chunk, as a share of each action's range.
    """
    picked = np.unique(np.linspace(0, len(windows) - 1, count).astype(int))
    batch = collate([windows[i] for i in picked])
    device = policy.video_std.device
    rng = torch.Generator(device).manual_seed(seed)
    dream = policy.imagine(batch.current, batch.prompts, rng, STEPS)[0].cpu().numpy()
    actions, mean = policy.act(batch.current, batch.prompts, rng)
    future = batch.future.numpy()
    copy = np.broadcast_to(batch.current.numpy()[:, None], future.shape)
    error = (policy.normalize_actions(actions) - policy.normalize_actions(batch.actions.to(device))).abs().cpu() / 2
    keep = ~batch.pad[:, :, None].expand_as(error)
    numbers = {
        "video_psnr": psnr(dream, future),
        "video_psnr_one_step": psnr(mean.cpu().numpy(), future),
        "copy_psnr": psnr(copy, future),
        "action_error": float(error[keep].mean()) if keep.any() else float("nan"),
    }
    return numbers, (batch, dream)


def row(frames):
    """Frames (N, 3, H, W) uint8 side by side -> a picture (H, N W, 3)."""
    return np.concatenate(list(frames.transpose(0, 2, 3, 1)), axis=1)


def strip(current, *videos):
    """Videos (T, V, 3, H, W) under each other, each after its current frame (V, 3, H, W) -> (h, w, 3), first camera."""
    return np.concatenate([row(np.concatenate([current[None], video])[:, 0]) for video in videos])


def save_strip(path, batch, dream, rows=3, scale=2):
    """PNG of a few windows, each two rows: the current frame and the true future, the current frame and the dream."""
    current, future = batch.current.numpy(), batch.future.numpy()
    bands = []
    for i in np.linspace(0, len(current) - 1, rows).astype(int):
        bands.append(strip(current[i], future[i], dream[i]))
        bands.append(np.full((2, *bands[-1].shape[1:]), 255, np.uint8))
    write_file(path, imageio.imwrite("<bytes>", enlarge(np.concatenate(bands[:-1]), scale), format="png"))


def side_by_side(frames, dream):
    """One picture of a film, (h, w, 3): what the first camera sees, and the dream of it, (V, 3, H, W) uint8 each."""
    scale = max(1, 256 // frames.shape[-1])
    views = [enlarge(view[0].transpose(1, 2, 0), scale) for view in (frames, dream)]
    height, width, _ = views[0].shape
    canvas = Image.new("RGB", (2 * width + 8, height + 16), "white")
    pen = ImageDraw.Draw(canvas)
    for x, view, caption in ((0, views[0], "reality"), (width + 8, views[1], "dream")):
        canvas.paste(Image.fromarray(view), (x, 16))
        pen.text((x + 4, 2), caption, fill="black")
    return np.asarray(canvas)


def enlarge(image, scale):
    """(H, W, 3) -> (scale H, scale W, 3), each pixel a square."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def write_film(path, frames, fps):
    """Write (N, H, W, 3) uint8 as a looping GIF or WebP, or as an mp4, by the ending of `path`."""
    kind = path.suffix.removeprefix(".")
    loop = {"duration": 1000 / fps, "loop": 0}
    how = {"gif": loop, "webp": loop | {"quality": 60}, "mp4": {"fps": fps, "macro_block_size": None, "quality": 8}}
    write_file(path, imageio.mimwrite("<bytes>", frames, format=kind, **how[kind]))


@contextmanager
def new_figure(path, panels, size, dpi=90):
    """Axes side by side to draw on; after the block they are a PNG at `path`. size: (width, height) in inches."""
    from matplotlib.figure import Figure  # here, since importing it takes time that -h should not wait for

    figure = Figure(figsize=size, layout="constrained")
    yield figure.subplots(1, panels, squeeze=False)[0]
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi)
    write_file(path, picture.getvalue())


def plot_curves(log, path):
    """Draw log.csv over minutes: the loss of each stage, the dream beside copying the current frame, action error."""
    rows = np.genfromtxt(log, delimiter=",", names=True, ndmin=1)  # NaN where a column has no entry
    spent = np.diff(rows["seconds"], prepend=0)
    spent = np.where(spent < 0, rows["seconds"], spent)  # seconds begin at 0 in each stage
    minutes = spent.cumsum() / 60

    def column(name):
        keep = np.isfinite(rows[name])
        return minutes[keep], rows[name][keep]

    with new_figure(path, 3, (12, 3.2), dpi=110) as (loss, dream, action):
        for name in ("video", "action"):
            x, y = column(name)
            if len(y):
                width = max(1, len(y) // 100)
                loss.plot(x[width - 1 :], np.convolve(y, np.ones(width) / width, mode="valid"), label=f"{name} loss")
        dream.plot(*column("video_psnr"), "o-", markersize=3, label=f"dream, {STEPS} passes")
        dream.plot(*column("video_psnr_one_step"), "s-", markersize=3, label="one pass")
        dream.plot(*column("copy_psnr"), "k--", label="copying the current frame")
        action.plot(*column("action_error"), "o-", markersize=3, label="one-pass decision")
        loss.set(yscale="log", title="training loss, a running mean")
        dream.set(title="held-out dream, PSNR in dB (higher is better)")
        action.set(title="held-out action error, share of range", ylim=(0, None))
        for axes in (loss, dream, action):
            axes.set_xlabel("minutes")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
