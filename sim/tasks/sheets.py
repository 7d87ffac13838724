"""Contact sheets: every task in one picture, what `python -m sim.tasks --sheet tasks` and `--sheet shifts` draw.

The frames are those that a policy sees, pixel for pixel, each pixel drawn as a square where they are small.
"""

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from sim.oracle import record_expert
from sim.task import SHIFTS
from util.files import InputError, write_file

MOMENTS = ("start", "middle", "end")
TRIES = 10  # scenes on which the expert may fail before it counts as broken
SHOWN = 128  # pixels that a smaller frame is enlarged to, by a whole number
GAP, SPACE, MARGIN = 2, 12, 44  # pixels between frames, between tasks, and on the left for the names of rows
LINE, FONT, SMALL = 19, 16, 13  # pixels: a line of text, the letters of a name and of a prompt


def draw_sheet(kind, names, out, size, seed):
    """Draw the sheet `kind`, "tasks" or "shifts", of some tasks at the scene of `seed` into a PNG -> a line about it.

    InputError for a file that is no PNG or a task whose expert fails on ten scenes in a row.
    """
    if out.suffix != ".png":
        raise InputError(f"--out {out}: a sheet is a PNG; give a name that ends in .png")
    from sim.env import CAMERAS, TaskEnv

    tasks, blocks, notes = kind == "tasks", [], ""
    for name in tqdm(names, desc=f"drawing {kind}", unit="task"):
        env = TaskEnv(name, cameras=CAMERAS if tasks else ("front",), size=size)
        frames, used = moments(env, seed) if tasks else (first_frames(env, seed), seed)
        notes += f"; {name} at seed {used}, for its expert fails at {seed}" if used != seed else ""
        env.close()
        blocks.append((name, env.prompt, frames))
    picture = arrange(blocks, MOMENTS, CAMERAS, per_row=3) if tasks else arrange(blocks, SHIFTS, (), per_row=2)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, imageio.imwrite("<bytes>", picture, format="png", optimize=True))
    height, width = picture.shape[:2]
    return f"{out}: {len(names)} tasks, {width}x{height} pixels, {out.stat().st_size / 1e3:.0f} kB{notes}"


def moments(env, seed):
    """Start, middle and end of the expert's first success from `seed` on, (V, 3, H, W, 3) uint8, and its seed."""
    for tried in range(seed, seed + TRIES):
        frames = record_expert(env, tried, until_success=True).frames
        if env.success():
            return frames[[0, len(frames) // 2, -1]].transpose(1, 0, 3, 4, 2), tried
    raise InputError(f"{env.task.name}: its expert fails at every seed from {seed} to {tried}; try another --seed")


def first_frames(env, seed):
    """The first frame of one seed under each of SHIFTS, (1, len(SHIFTS), H, W, 3) uint8."""
    frames = []
    for shift in reversed(SHIFTS):  # "none" comes last and leaves its prompt
        env.reset(seed, shift)
        frames.append(env.observe()[0].transpose(1, 2, 0))
    return np.stack(frames[::-1])[None]


def arrange(blocks, columns, rows, per_row):
    """Blocks (name, prompt, frames (R, C, H, W, 3)) side by side, `per_row` of them, under the names of their columns
    and beside those of their rows -> (h, w, 3) uint8.
    """
    n_rows, n_columns, size = blocks[0][2].shape[:3]
    per_row = min(per_row, len(blocks))
    shown = size * max(1, SHOWN // size)
    cell, left = shown + GAP, MARGIN if rows else 0
    wide, high = n_columns * cell + SPACE, 2 * LINE + n_rows * cell + SPACE
    lines = -(-len(blocks) // per_row)
    canvas = Image.new("RGB", (left + per_row * wide - SPACE, LINE + lines * high - SPACE), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (name, prompt, frames) in enumerate(blocks):
        x, y = left + i % per_row * wide, LINE + i // per_row * high
        pen.text((x, y), name, "black", font_size=FONT)
        pen.text((x, y + LINE), prompt, "black", font_size=SMALL)
        y += 2 * LINE
        for r, c in np.ndindex(n_rows, n_columns):
            frame = Image.fromarray(frames[r, c]).resize((shown, shown), Image.Resampling.NEAREST)
            canvas.paste(frame, (x + c * cell, y + r * cell))
        for c, column in enumerate(columns if i < per_row else ()):
            pen.text((x + c * cell, 0), column, "dimgray", font_size=SMALL)
        for r, row in enumerate(rows if i % per_row == 0 else ()):
            pen.text((0, y + r * cell), row, "dimgray", font_size=SMALL)
    return np.asarray(canvas)
