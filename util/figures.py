"""Generated video as numbers and as pictures: PSNR against the true video, strips, films; training curves."""

import io
from contextlib import contextmanager

import imageio.v2 as imageio
import numpy as np
import torch
from PIL import Image, ImageDraw

from util.files import write_file
from videopolicy import collate

STEPS = 8  # denoising steps of a video that is looked at or measured; acting needs one pass


def squared_error(a, b):
    """Mean squared difference of uint8 arrays that broadcast."""
    return float(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean())


def psnr(a, b):
    """Peak signal-to-noise ratio in dB of uint8 arrays of one shape."""
    return float(10 * np.log10(255**2 / max(squared_error(a, b), 1e-10)))


def held_out_measures(policy, windows, count=32, seed=0):
    """Held-out quality over `count` evenly spaced windows: a dict of numbers, and (batch, video) to look at.
    video_psnr: video of STEPS denoising steps against the true one; video_psnr_one_step: that of the pass that acts;
    copy_psnr: the current frame repeated; action_error: mean absolute error of the chunk, share of its range, up to 1.
    """
    batch = collate([windows[i] for i in np.unique(np.linspace(0, len(windows) - 1, count).astype(int))])
    device = policy.video_std.device
    rng = torch.Generator(device).manual_seed(seed)
    video = policy.imagine(batch.current, batch.prompts, rng, STEPS)[0].cpu().numpy()
    actions, one_step = policy.act(batch.current, batch.prompts, rng)
    future = batch.future.numpy()
    error = policy.normalize_actions(actions) - policy.normalize_actions(batch.actions.to(device))
    error = error.abs().clamp(max=2).cpu() / 2
    keep = ~batch.pad[:, :, None].expand_as(error)
    numbers = {
        "video_psnr": psnr(video, future),
        "video_psnr_one_step": psnr(one_step.cpu().numpy(), future),
        "copy_psnr": psnr(np.broadcast_to(batch.current.numpy()[:, None], future.shape), future),
        "action_error": float(error[keep].mean()) if keep.any() else float("nan"),
    }
    return numbers, (batch, video)


def row(frames):
    """Frames (N, 3, H, W) uint8 side by side -> a picture (H, N W, 3)."""
    return np.concatenate(list(frames.transpose(0, 2, 3, 1)), axis=1)


def strip(current, *videos):
    """Videos (T, V, 3, H, W) under each other, each after its current frame (V, 3, H, W) -> (h, w, 3), first camera."""
    return np.concatenate([row(np.concatenate([current[None], video])[:, 0]) for video in videos])


def save_strip(path, batch, video, rows=3, scale=2):
    """PNG of a few windows, each two rows: after the current frame, the true video and the generated one."""
    current, future = batch.current.numpy(), batch.future.numpy()
    picked = np.linspace(0, len(current) - 1, rows).astype(int)
    bands = [strip(current[i], future[i], video[i]) for i in picked]
    bands = [np.pad(band, ((0, 2), (0, 0), (0, 0)), constant_values=255) for band in bands]
    write_file(path, imageio.imwrite("<bytes>", enlarge(np.concatenate(bands)[:-2], scale), format="png"))


def save_hands(path, frames, points, scale=3):
    """PNG of frames (M, 3, H, W) with points (M, 3, 2) of the hand: its middle, along the fingers' travel, outwards."""
    picture = Image.fromarray(enlarge(row(frames), scale))
    pen, width = ImageDraw.Draw(picture), scale * frames.shape[-1]
    for i, (middle, *ends) in enumerate(scale * points + scale / 2):
        for end, color in zip(ends, ("red", "blue"), strict=True):
            pen.line([(i * width + middle[0], middle[1]), (i * width + end[0], end[1])], fill=color, width=scale)
    write_file(path, imageio.imwrite("<bytes>", np.asarray(picture), format="png"))


def side_by_side(observation, generated):
    """One picture of a film, (h, w, 3), of a pair of frames (V, 3, H, W) uint8 as the first camera sees them."""
    scale = max(1, 256 // observation.shape[-1])
    views = [enlarge(view[0].transpose(1, 2, 0), scale) for view in (observation, generated)]
    height, width, _ = views[0].shape
    canvas = Image.new("RGB", (2 * width + 8, height + 16), "white")
    pen = ImageDraw.Draw(canvas)
    for x, view, caption in ((0, views[0], "observation"), (width + 8, views[1], "generated video")):
        canvas.paste(Image.fromarray(view), (x, 16))
        pen.text((x + 4, 2), caption, fill="black")
    return np.asarray(canvas)


def grid_film(films, successes, columns=6):
    """Several episodes at once, observation above generated video, framed in green after success -> (N, h, w, 3)."""
    films = [[np.concatenate([view[0] for view in pair], axis=1).transpose(1, 2, 0) for pair in film] for film in films]
    height, width, _ = np.add(films[0][0].shape, 6)  # with the frame, three pixels wide
    columns = min(columns, len(films))
    rows = -(-len(films) // columns)
    canvas = np.full((max(map(len, films)) + 5, rows * height, columns * width, 3), 255, np.uint8)
    for t, picture in enumerate(canvas):  # the last five frames: so that the end stays for a second
        for i, (film, success) in enumerate(zip(films, successes, strict=True)):
            y, x = i // columns * height, i % columns * width
            picture[y : y + height, x : x + width] = (40, 160, 70) if success and t >= len(film) else 255
            picture[y + 3 : y + height - 3, x + 3 : x + width - 3] = film[min(t, len(film) - 1)]
    return canvas


def write_films(folder, name, films, episodes, fps):
    """Write each film, {task: list of films}, and one of all tasks at once where there are several -> their paths."""
    made = {folder / f"{task}_{name}_{i}.gif": np.stack([side_by_side(*pair) for pair in film])
            for task, of_task in films.items() for i, film in enumerate(of_task)}  # fmt: skip
    if len(films) > 1:
        first = {episode.task: episode.success for episode in reversed(episodes)}
        frames = grid_film([of_task[0] for of_task in films.values()], [first[task] for task in films])
        made[folder / f"tasks_{name}.webp"] = frames
    for path, frames in made.items():
        quality = {"quality": 60} if path.suffix == ".webp" else {}
        film = imageio.mimwrite("<bytes>", frames, format=path.suffix[1:], duration=1000 / fps, loop=0, **quality)
        write_file(path, film)
    return list(made)


def enlarge(image, scale):
    """(H, W, 3) -> (scale H, scale W, 3), each pixel a square."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


@contextmanager
def new_figure(path, panels, size, dpi=90):
    """Axes side by side to draw on; after the block they are a PNG at `path`. size: (width, height) in inches."""
    from matplotlib.figure import Figure  # here, so that -h does not wait for the import

    figure = Figure(figsize=size, layout="constrained")
    yield figure.subplots(1, panels, squeeze=False)[0]
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi)
    write_file(path, picture.getvalue())


def plot_curves(log, path):
    """Draw log.csv over minutes: the losses, the PSNR of held-out video, the held-out action error."""
    rows = np.genfromtxt(log, delimiter=",", names=True, ndmin=1)  # NaN where there is no number
    spent = np.diff(rows["seconds"], prepend=0)
    minutes = np.where(spent < 0, rows["seconds"], spent).cumsum() / 60  # seconds begin at 0 in each stage
    panels = [  # title, vertical axis, {column: label}
        ("training loss, running mean", {"yscale": "log"}, {"video": "video", "action": "action"}),
        ("held-out video PSNR in dB (higher is better)", {},
         {"video_psnr": f"{STEPS} steps", "video_psnr_one_step": "one step", "copy_psnr": "current frame repeated"}),
        ("held-out action error, share of range", {"ylim": (0, None)}, {"action_error": "decision from one pass"}),
    ]  # fmt: skip
    with new_figure(path, 3, (12, 3.2), dpi=110) as figure:
        for axes, (title, scale, columns) in zip(figure, panels, strict=True):
            for column, label in columns.items():
                keep = np.isfinite(rows[column])
                x, y = minutes[keep], rows[column][keep]
                if len(y):
                    width, style = (max(1, len(y) // 100), "-") if "loss" in title else (1, "o-")
                    mean = np.convolve(y, np.ones(width) / width, mode="valid")
                    axes.plot(x[width - 1 :], mean, style, markersize=3, label=label)
            axes.set(title=title, xlabel="minutes", **scale)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
