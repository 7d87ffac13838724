"""The figures of the questions: success rates with their intervals, as curves or as a line for each arm."""

from pathlib import Path

import numpy as np

from util.figures import new_figure


def plot(name: str, tables: dict[str, dict[str, dict]], path: Path) -> None:
    """The figure of a question: {title of a group: its table by statistics.tabulate}."""
    draw, height = draw_lines, max(1.6, 0.8 + 0.3 * sum(map(len, tables.values())))
    if name == "demos":
        draw, height = draw_curves, 3.6
    with new_figure(path, 1, (7, height)) as (axes,):
        draw(axes, name, tables)


def draw_curves(axes, name: str, tables: dict[str, dict[str, dict]]) -> None:
    """Success of each method over labelled demonstrations: arms with intervals, a small tick for each training seed."""
    for i, method in enumerate(dict.fromkeys(label for table in tables.values() for label in table)):
        rows = {table[method]["labelled"]: table[method] for table in tables.values() if method in table}.values()
        x = [row["labelled"] * 1.04**i for row in rows]  # side by side: many methods have points in one place
        success, low, high = np.transpose([(row["success"], row["low"], row["high"]) for row in rows])
        line = axes.errorbar(x, success, yerr=[success - low, high - success], capsize=3, fmt="o-", label=method)[0]
        for at, row in zip(x, rows, strict=True):
            of_seeds = row["counts"] / row["episodes"]
            axes.plot([at] * len(of_seeds), of_seeds, "_", color=line.get_color(), markersize=7)
    axes.set_xscale("log")
    places = sorted({row["labelled"] for table in tables.values() for row in table.values()})
    axes.set_xticks(places, map(str, places))
    axes.minorticks_off()
    axes.set(ylim=(-0.03, 1.03), ylabel="success rate (bars: 95 %; ticks: seeds)")
    axes.set(xlabel="labelled demonstrations of each task", title=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_lines(axes, name: str, tables: dict[str, dict[str, dict]]) -> None:
    """A point with its interval for each arm, a colour for each group, and a small tick for each training seed."""
    labels = []
    for i, (title, table) in enumerate(tables.items()):
        for label, row in table.items():
            y = len(labels)
            axes.plot([row["low"], row["high"]], [y, y], color=f"C{i}", linewidth=2)
            axes.plot(row["success"], y, "o", color=f"C{i}")
            axes.plot(row["counts"] / row["episodes"], [y] * len(row["counts"]), "|", color="black", markersize=9)
            labels.append(f"{label} ({title})" if len(tables) > 1 else label)
    axes.set(xlim=(0, 1), xlabel="success rate (line: 95 %; ticks: training seeds)", title=name)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
