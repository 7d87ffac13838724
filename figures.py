"""Dreams as numbers and as pictures: PSNR against what really happened, strips, training curves, dream beside
reality.
"""

import csv

import imageio.v2 as imageio
import numpy as np
import torch
from PIL import Image, ImageDraw

from cli import replacing
from videopolicy import collate

PASSES = 8  # of the U-Net for a dream that is looked at or measured; acting needs one


def squared_error(a, b):
    """Mean squared difference of uint8 arrays that broadcast, over everything."""
    return float(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean())


def psnr(a, b):
    """Peak signal-to-noise ratio in dB of uint8 arrays of one shape."""
    return float(10 * np.log10(255**2 / max(squared_error(a, b), 1e-10)))


@torch.no_grad()
def dream_error(policy, windows, count=32, seed=0):
    """Held-out quality over `count` evenly spaced windows: a dict of numbers, and (batch, dream) to look at.

    psnr_dream: the sampled video (PASSES passes) against the true future; psnr_one_pass: the mean of the futures that
    one pass makes; psnr_copy: the copy-last-frame baseline, the current frame repeated; action_error: mean absolute
    error of the decided chunk, as a share of each action's range.
    """
    picked = np.unique(np.linspace(0, len(windows) - 1, count).astype(int))
    batch = collate([windows[i] for i in picked])
    policy.eval()
    device = policy.video_std.device
    rng = torch.Generator(device).manual_seed(seed)
    dream = policy.imagine(batch.current, batch.prompts, rng, PASSES)[0].cpu().numpy()
    actions, mean = policy.act(batch.current, batch.prompts, rng)
    policy.train()
    future = batch.future.numpy()
    copy = np.broadcast_to(batch.current.numpy()[:, None], future.shape)
    error = (policy.scale_actions(actions) - policy.scale_actions(batch.actions.to(device))).abs().cpu() / 2
    keep = (~batch.pad & batch.has_actions[:, None])[:, :, None].expand_as(error)
    numbers = {
        "psnr_dream": psnr(dream, future),
        "psnr_one_pass": psnr(mean.cpu().numpy(), future),
        "psnr_copy": psnr(copy, future),
        "action_error": float(error[keep].mean()) if keep.any() else float("nan"),
    }
    return numbers, (batch, dream)


def row(frames):
    """Frames (N, 3, H, W) uint8 side by side -> a picture (H, N W, 3)."""
    return np.concatenate(list(frames.transpose(0, 2, 3, 1)), axis=1)


def strip(current, *films):
    """Films (T, V, 3, H, W) uint8 under each other, each after its current frame (V, 3, H, W) -> a picture (h, w, 3).

    First camera.
    """
    return np.concatenate([row(np.concatenate([current[None], film])[:, 0]) for film in films])


def save_strip(path, batch, dream, rows=3, scale=2):
    """PNG of a few windows, each two rows: the current frame and the true future, the current frame and the dream."""
    current, future = batch.current.numpy(), batch.future.numpy()
    bands = []
    for i in np.linspace(0, len(current) - 1, rows).astype(int):
        bands.append(strip(current[i], future[i], dream[i]))
        bands.append(np.full((2, *bands[-1].shape[1:]), 255, np.uint8))
    write_picture(path, enlarge(np.concatenate(bands[:-1]), scale))


def side_by_side(frames, dream, scale=4):
    """One picture of a film: what the first camera sees and what was dreamed of it, (V, 3, H, W) uint8 each -> (h,
    w, 3).
    """
    panels = [enlarge(view[0].transpose(1, 2, 0), scale) for view in (frames, dream)]
    gap = np.full((panels[0].shape[0], 8, 3), 255, np.uint8)
    picture = Image.fromarray(np.concatenate([panels[0], gap, panels[1]], axis=1))
    canvas = Image.new("RGB", (picture.width, picture.height + 16), "white")
    canvas.paste(picture, (0, 16))
    pen = ImageDraw.Draw(canvas)
    pen.text((4, 2), "reality", fill="black")
    pen.text((panels[0].shape[1] + 12, 2), "dream", fill="black")
    return np.asarray(canvas)


def enlarge(image, scale):
    """(H, W, 3) -> (scale H, scale W, 3), each pixel a square."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def write_picture(path, image):
    """Write a PNG."""
    with replacing(path) as part:
        imageio.imwrite(part, image)


def write_film(path, frames, fps):
    """Write (N, H, W, 3) uint8 as a looping GIF or an mp4, by the ending of `path`."""
    how = {"duration": 1000 / fps, "loop": 0}
    if path.suffix != ".gif":
        how = {"fps": fps, "macro_block_size": None, "quality": 8}
    with replacing(path) as part:
        imageio.mimwrite(part, frames, **how)


def plot_curves(log, path):
    """Draw log.csv over minutes: the loss of each stage, the dream beside copying the current frame, action error."""
    import matplotlib

    matplotlib.use("Agg")  # files only, no window
    import matplotlib.pyplot as plt

    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    first = {
        stage: float(next(r["seconds"] for r in reversed(rows) if int(r["stage"]) == stage))
        for stage in {int(r["stage"]) for r in rows}
    }
    minutes = np.array([(sum(first[s] for s in first if s < int(r["stage"])) + float(r["seconds"])) / 60 for r in rows])

    def column(name):
        values = np.array([float(r[name]) if r[name] else np.nan for r in rows])
        keep = np.isfinite(values)
        return minutes[keep], values[keep]

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), constrained_layout=True)
    for name in ("video", "action"):
        x, y = column(name)
        if len(y):
            width = max(1, len(y) // 100)
            smooth = np.convolve(y, np.ones(width) / width, mode="valid")
            axes[0].plot(x[width - 1 :], smooth, label=f"{name} loss")
    axes[0].set(yscale="log", title="training loss, a running mean")
    for name, label, style in (
        ("psnr_dream", f"dream, {PASSES} passes", "o-"),
        ("psnr_one_pass", "one pass", "s-"),
        ("psnr_copy", "copying the current frame", "k--"),
    ):
        axes[1].plot(*column(name), style, markersize=3, label=label)
    axes[1].set(title="held-out dream, PSNR in dB (higher is better)")
    axes[2].plot(*column("action_error"), "o-", markersize=3, label="one-pass decision")
    axes[2].set(title="held-out action error, share of range", ylim=(0, None))
    for axis in axes:
        axis.set_xlabel("minutes")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)
