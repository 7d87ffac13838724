"""The figures of the ablations: success with its intervals, and how good the dreams are."""

from pathlib import Path

import numpy as np

from ablations.protocol import AXES
from ablations.statistics import dream_errors, rate, successes
from util.figures import new_figure


def plot(name: str, table: dict[str, dict], done: dict[str, list[dict]], path: Path) -> None:
    """Success with intervals: curves where the arms have an axis, else a line each; beside it, how good dreams are."""
    scored = {
        label: results for label, results in done.items()
        if all("first_dream_error" in result and not {"feed", "react"} & {*result["evaluate"]} for result in results)
    }  # fmt: skip
    panels = 3 if name == "scaling" else 2 if scored else 1
    height = 3.6 if name in AXES else max(3.0 if scored else 1.6, 0.6 + 0.36 * len(table))
    with new_figure(path, panels, (3 + 4 * panels, height)) as axes:
        (draw_curves if name in AXES else draw_lines)(axes[0], name, table)
        if scored:
            draw_dreams(axes[1], scored)
        if name == "scaling":
            measures = {"psnr_dream": ("8 passes", "o-"), "psnr_one_pass": ("one pass", "s--")}
            draw_held_out(axes[1], name, table, "held-out dream, PSNR in dB", measures)
            measures = {"action_error": ("one-pass decision", "o-")}
            draw_held_out(axes[2], name, table, "held-out action error, share of range", measures)


def plot_dreams(measured: dict[str, np.ndarray], won: np.ndarray, path: Path) -> None:
    """An arm a point, the mean of its seeds: its success over how good its held-out dreams and decisions are."""
    titles = {"dream": "one-pass dream, dB better than copying", "action error": "held-out action error"}
    with new_figure(path, len(measured), (9, 3.4)) as axes:
        for one, (name, x) in zip(axes, measured.items(), strict=True):
            one.plot(x, won, "o", alpha=0.7)
            one.set(xlabel=titles[name], ylabel="success", ylim=(-0.03, 1.03))
            one.grid(alpha=0.3)


def draw_curves(axes, name: str, table: dict[str, dict]) -> None:
    """Success over the ablation's axis; every arm with its interval, a small tick for each training seed."""
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = {label: row for label, row in table.items() if row["curve"] == curve}
        rows = dict(sorted(rows.items(), key=lambda row: row[1]["x"]))
        aside = 1.04**i if name in ("demos", "scaling") else 1  # many curves have points in one place
        x = [row["x"] * aside for row in rows.values()]
        rates = [(row["success"], row["low"], row["high"]) for row in rows.values()]
        color = draw_rates(axes, x, rates, fmt="o-", label=curve)
        for at, row in zip(x, rows.values(), strict=True):
            axes.plot([at] * len(row["seeds"]), row["seeds"], "_", color=color, markersize=7)
    draw_axis(axes, name, table)
    axes.set(ylim=(-0.03, 1.03), ylabel="success (bars: 95 %; ticks: seeds)", title=name)


def draw_held_out(axes, name: str, table: dict[str, dict], title: str, measures: dict[str, tuple[str, str]]) -> None:
    """Held-out measures over the ablation's axis, means over seeds; measures: {measure: (its name, line style)}."""
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = [row for row in table.values() if row["curve"] == curve]
        for measure, (label, style) in measures.items():
            means = [np.mean(row["dream"][measure]) for row in rows]
            label = f"{curve}, {label}"
            axes.plot([row["x"] for row in rows], means, style, color=f"C{i}", label=label, markersize=4)
    draw_axis(axes, name, table)
    axes.set_title(title)


def draw_rates(axes, x: list[float], rates: list[tuple[float, float, float]], **style) -> str:
    """Points with error bars, of rates and their intervals -> their colour."""
    p, low, high = np.transpose(rates)
    return axes.errorbar(x, p, yerr=[p - low, high - p], capsize=3, **style)[0].get_color()


def draw_axis(axes, name: str, table: dict[str, dict]) -> None:
    """The ablation's x axis, with a tick wherever an arm lies and nowhere else; grid and legend."""
    label, scale = AXES[name]
    axes.set_xscale(scale)
    places = sorted({row["x"] for row in table.values()})
    axes.set_xticks(places, map(str, places))
    axes.minorticks_off()
    axes.set(xlabel=label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_lines(axes, name: str, table: dict[str, dict]) -> None:
    """A point with its interval for each arm, and a small tick for each training seed."""
    for y, row in enumerate(table.values()):
        axes.plot([row["low"], row["high"]], [y, y], color="tab:blue", linewidth=2)
        axes.plot(row["success"], y, "o", color="tab:blue")
        axes.plot(row["seeds"], [y] * len(row["seeds"]), "|", color="black", markersize=9)
    axes.set(xlim=(0, 1), xlabel="success (line: 95 %; ticks: training seeds)", title=name)
    axes.set_yticks(range(len(table)), table)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def draw_dreams(axes, done: dict[str, list[dict]], groups: int = 4) -> None:
    """Success of the episodes in order of the error of their first dreams, in groups of about one size.

    In order within a training seed and a task, as in auroc: the dreams of one task are worse than those of another.
    """
    for label, results in done.items():
        won, error = successes(results), dream_errors(results, "first_dream_error")
        order = np.argsort(error, axis=-1)  # NaN come last
        won, error = (np.take_along_axis(x, order, axis=-1) for x in (won, error))
        parts = np.array_split(np.arange(order.shape[-1]), groups)
        medians = [np.nanmedian(error[..., part]) for part in parts]
        draw_rates(axes, medians, [rate(won[..., part]) for part in parts], fmt="o-", label=label)
    axes.set(ylim=(-0.03, 1.03), xlabel="normalised MSE of the first dream", title="success by quarter")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
