"""The figures of the questions: success with its intervals, and success by the error of the generated video."""

from pathlib import Path

import numpy as np

from ablations.protocol import AXES, Arm
from ablations.statistics import rate, successes, tabulate, video_errors
from util.figures import new_figure


def plot(name: str, arms: list[Arm], done: dict[str, dict[int, dict]], path: Path) -> None:
    """The figure of a question: curves where its arms have an axis, else a line for each arm."""
    table = tabulate(arms, done)
    scored = name == "video_error"
    height = 3.6 if name in AXES or scored else max(1.6, 0.6 + 0.36 * len(table))
    with new_figure(path, 1, (7, height)) as (axes,):
        if scored:
            draw_quarters(axes, done)
        else:
            (draw_curves if name in AXES else draw_lines)(axes, name, table)


def draw_curves(axes, name: str, table: dict[str, dict]) -> None:
    """Success over the question's axis; every arm with its interval, a small tick for each training seed."""
    label, scale = AXES[name]
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = sorted((row for row in table.values() if row["curve"] == curve), key=lambda row: row["x"])
        aside = 1.04**i if scale == "log" else 1  # many curves have points in one place
        x = [row["x"] * aside for row in rows]
        color = draw_rates(axes, x, [(row["success"], row["low"], row["high"]) for row in rows], label=curve)
        for at, row in zip(x, rows, strict=True):
            axes.plot([at] * len(row["of_seeds"]), row["of_seeds"], "_", color=color, markersize=7)
    axes.set_xscale(scale)
    places = sorted({row["x"] for row in table.values()})
    axes.set_xticks(places, map(str, places))
    axes.minorticks_off()
    axes.set(xlabel=label, title=name)


def draw_rates(axes, x: list[float], rates: list[tuple[float, float, float]], label: str) -> str:
    """Points with error bars, of rates and their intervals -> their colour."""
    p, low, high = np.transpose(rates)
    line = axes.errorbar(x, p, yerr=[p - low, high - p], capsize=3, fmt="o-", label=label)[0]
    axes.set(ylim=(-0.03, 1.03), ylabel="success rate (bars: 95 %; ticks: seeds)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return line.get_color()


def draw_lines(axes, name: str, table: dict[str, dict]) -> None:
    """A point with its interval for each arm, and a small tick for each training seed."""
    for y, row in enumerate(table.values()):
        axes.plot([row["low"], row["high"]], [y, y], color="tab:blue", linewidth=2)
        axes.plot(row["success"], y, "o", color="tab:blue")
        axes.plot(row["of_seeds"], [y] * len(row["of_seeds"]), "|", color="black", markersize=9)
    axes.set(xlim=(0, 1), xlabel="success rate (line: 95 %; ticks: training seeds)", title=name)
    axes.set_yticks(range(len(table)), table)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def draw_quarters(axes, done: dict[str, dict[int, dict]], groups: int = 4) -> None:
    """Success of the episodes in order of the error of their first generated video, in groups of about one size.

    In order within a training seed and a task, as in auroc: the videos of one task are worse than those of another.
    """
    for label, by_seed in done.items():
        results = [*by_seed.values()]
        success, error = successes(results), video_errors(results)
        order = np.argsort(error, axis=-1)  # NaN come last
        success, error = (np.take_along_axis(x, order, axis=-1) for x in (success, error))
        parts = np.array_split(np.arange(order.shape[-1]), groups)
        medians = [np.nanmedian(error[..., part]) for part in parts]
        draw_rates(axes, medians, [rate(success[..., part]) for part in parts], label)
    axes.set(xlabel="error of the first generated video (1: no better than copying)", title="success by quarter")
