"""The figures of the questions: success rates with their intervals, as curves or as a line for each arm."""

from pathlib import Path

import numpy as np

from util.figures import new_figure


def plot(name: str, table: dict[str, dict], path: Path) -> None:
    """The figure of a question, of statistics.tabulate's table."""
    draw, height = (draw_curves, 3.6) if name == "demos" else (draw_lines, max(1.6, 0.6 + 0.36 * len(table)))
    with new_figure(path, 1, (7, height)) as (axes,):
        draw(axes, name, table)


def draw_curves(axes, name: str, table: dict[str, dict]) -> None:
    """Success of each method over labelled demonstrations: arms with intervals, a small tick for each training seed."""
    methods = [label.partition(", ")[0] for label in table]
    for i, method in enumerate(dict.fromkeys(methods)):
        rows = [row for of, row in zip(methods, table.values(), strict=True) if of == method]
        x = [row["labelled"] * 1.04**i for row in rows]  # side by side: many methods have points in one place
        success, low, high = np.transpose([(row["success"], row["low"], row["high"]) for row in rows])
        line = axes.errorbar(x, success, yerr=[success - low, high - success], capsize=3, fmt="o-", label=method)[0]
        for at, row in zip(x, rows, strict=True):
            of_seeds = row["counts"] / row["episodes"]
            axes.plot([at] * len(of_seeds), of_seeds, "_", color=line.get_color(), markersize=7)
    axes.set_xscale("log")
    places = sorted({row["labelled"] for row in table.values()})
    axes.set_xticks(places, map(str, places))
    axes.minorticks_off()
    axes.set(ylim=(-0.03, 1.03), ylabel="success rate (bars: 95 %; ticks: seeds)")
    axes.set(xlabel="labelled demonstrations of each task", title=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_lines(axes, name: str, table: dict[str, dict]) -> None:
    """A point with its interval for each arm, and a small tick for each training seed."""
    for y, row in enumerate(table.values()):
        axes.plot([row["low"], row["high"]], [y, y], color="tab:blue", linewidth=2)
        axes.plot(row["success"], y, "o", color="tab:blue")
        axes.plot(row["counts"] / row["episodes"], [y] * len(row["counts"]), "|", color="black", markersize=9)
    axes.set(xlim=(0, 1), xlabel="success rate (line: 95 %; ticks: training seeds)", title=name)
    axes.set_yticks(range(len(table)), table)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
