"""What came out of an ablation: rates, paired differences and ties with 95 % intervals, verdicts, plots, table rows."""

from pathlib import Path

import numpy as np

from ablations.protocol import AXES, Arm, Claim, Tie
from cli import replacing, wilson

DRAWS = 4000  # of the bootstrap
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # two-sided 95 % for 2, 3, ... 10 seeds
HEADER = "| claim | command | seeds | ours | difference | paper | |\n|---|---|---|---|---|---|---|"


def episodes(result: dict) -> dict:
    """(task, scene) -> 1 for a success, 0 for a failure, from a cell's result."""
    return {(task, i): int(won) for task, row in result["won"].items() for i, won in enumerate(row)}


def rate(results: list[dict]) -> tuple[float, float, float, int]:
    """Success over the seeds of an arm, its 95 % Wilson interval, and how many episodes there were.

    The interval takes the episodes for independent; how much training seeds differ is seen in `difference`.
    """
    won = [success for result in results for success in episodes(result).values()]
    return sum(won) / len(won), *wilson(sum(won), len(won)), len(won)


def difference(better: list[dict], worse: list[dict]) -> tuple[float, float, float]:
    """Difference in success and its 95 % interval, from two arms' results, seed by seed and scene by scene.

    The wider of two intervals: Student's over the training seeds, and a bootstrap of the scenes, which all seeds share.
    """
    pairs = [(episodes(a), episodes(b)) for a, b in zip(better, worse, strict=True)]
    gaps = np.array([[a[scene] - b[scene] for scene in sorted(a)] for a, b in pairs])  # (seeds, scenes)
    low, high = bootstrap(gaps.shape[1], lambda scenes: gaps[:, scenes].mean())
    mean, seeds = gaps.mean(), len(gaps)
    if seeds > 1:
        half = STUDENT[min(seeds - 2, len(STUDENT) - 1)] * gaps.mean(1).std(ddof=1) / seeds**0.5
        low, high = min(low, mean - half), max(high, mean + half)
    return float(mean), float(low), float(high)


def tie(results: list[dict], field: str) -> tuple[float, float, float] | None:
    """P(a success's dream missed less than a failure's), 0.5 where they have nothing to do with each other, and its
    95 % interval; None where there are only successes, or only failures.

    Pairs are made within a training seed and a task, so that neither a good seed nor an easy task makes a tie of its
    own. The interval is a bootstrap of the scenes; training seeds are too few to draw from.
    """
    tasks = list(results[0]["won"])
    won = np.array([[list(map(int, result["won"][task])) for task in tasks] for result in results], dtype=bool)
    error = np.array([[result[field][task] for task in tasks] for result in results], dtype=float)
    count = won.shape[2]  # scenes; won and error are (seeds, tasks, scenes)
    better = (error[..., :, None] < error[..., None, :]) + 0.5 * (error[..., :, None] == error[..., None, :])
    pairs = won[..., :, None] & ~won[..., None, :] & np.isfinite(error[..., :, None] + error[..., None, :])
    better, pairs = (better * pairs).sum((0, 1)), pairs.sum((0, 1))  # (scenes, scenes): of a success and of a failure

    def share(scenes):
        times = np.bincount(scenes, minlength=count)
        return times @ better @ times / max(times @ pairs @ times, 1e-9)

    return (float(share(np.arange(count))), *bootstrap(count, share)) if pairs.any() else None


def bootstrap(count: int, statistic) -> tuple[float, float]:
    """95 % interval of a statistic of indices, `count` of which are drawn anew each time."""
    rng = np.random.default_rng(0)
    low, high = np.quantile([statistic(rng.integers(count, size=count)) for _ in range(DRAWS)], (0.025, 0.975))
    return float(low), float(high)


def verdict(low: float, high: float, margin: float = 0.0) -> str:
    """What an interval says about "more than `margin`"."""
    return "holds" if low > margin else "does not hold" if high < margin else "cannot tell"


def tabulate(arms: dict[str, Arm], done: dict[str, list[dict]]) -> dict[str, dict]:
    """A row of numbers for each finished arm, by its label."""
    table = {}
    for label, results in done.items():
        p, low, high, n = rate(results)
        arm = arms[label]
        table[label] = {
            "success": p, "low": low, "high": high, "episodes": n, "seeds": [rate([result])[0] for result in results],
            "ms_per_decision": float(np.median([result["ms_per_decision"] for result in results])),
            "train_seconds": [result["train_seconds"] for result in results], "curve": arm.curve, "x": arm.x,
        }  # fmt: skip
        if all("dream_error" in result for result in results):
            table[label]["dream_error"] = float(np.nanmedian(dream_errors(results, "dream_error")))
    return table


def dream_errors(results: list[dict], field: str) -> np.ndarray:
    """What the dreams of each episode missed, in the order of `episodes`; NaN where nothing was going to move."""
    return np.array([e for result in results for row in result[field].values() for e in row], dtype=float)


def judge(claim: Claim | Tie, command: str, done: dict[str, list[dict]]) -> tuple[dict | None, str]:
    """A claim's numbers and verdict, None where an arm was not run, and its row of the README's table.

    Where one arm has more training seeds than the other, those that both have count.
    """
    row = f"| {claim.text} | `{command}` |"
    needed = (claim.arm,) if isinstance(claim, Tie) else (claim.better, claim.worse)
    if any(label not in done for label in needed):
        return None, f"{row} | not run | | {claim.paper} | |"
    seeds = min(len(done[label]) for label in needed)
    results = [done[label][:seeds] for label in needed]
    row = f"{row} {seeds} |"
    if isinstance(claim, Tie):
        # Of the first decision: what is dreamt later may be wrong because the robot has already gone astray.
        found = tie(*results, "first_dream_error")
        if found is None:
            return None, f"{row} all episodes ended alike | | {claim.paper} | cannot tell |"
        middle, numbers = 0.5, f"P(success dreamt better) {found[0]:.2f} | [{found[1]:.2f}, {found[2]:.2f}]"
    else:
        found, middle = difference(*results), claim.margin
        ours = ["{:.2f} [{:.2f}, {:.2f}]".format(*rate(of_arm)) for of_arm in results]
        numbers = " / ".join(ours) + f" | {found[0]:+.2f} [{found[1]:+.2f}, {found[2]:+.2f}]"
    value, low, high = found
    told = verdict(low, high, middle) if seeds > 1 else "one seed"
    kept = {"claim": claim.text, "value": value, "low": low, "high": high, "verdict": told, "paired_seeds": seeds}
    if isinstance(claim, Tie):
        kept["all_decisions"] = tie(*results, "dream_error")
    return kept, f"{row} {numbers} | {claim.paper} | {told} |"


def plot(name: str, table: dict[str, dict], done: dict[str, list[dict]], path: Path) -> None:
    """Success with its interval: curves where the arms have an axis, else a line each; an oracle's dreams as well."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scored = [
        label for label, results in done.items()
        if all("first_dream_error" in result and "feed" not in result["evaluate"] for result in results)
    ]  # fmt: skip
    dreams = name == "oracle" and len(scored) > 0
    height = 3.6 if name in AXES else max(3.0 if dreams else 1.6, 0.6 + 0.36 * len(table))
    figure, axes = plt.subplots(1, 1 + dreams, figsize=(7 + 4 * dreams, height), layout="constrained", squeeze=False)
    (draw_curves if name in AXES else draw_lines)(axes[0, 0], name, table)
    if dreams:
        draw_dreams(axes[0, 1], {label: done[label] for label in scored})
    with replacing(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)


def draw_curves(axes, name: str, table: dict[str, dict]) -> None:
    """Success over the ablation's axis; every arm with its interval, a small tick for each training seed."""
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = [(label, row) for label, row in table.items() if row["curve"] == curve]
        aside = 1.04**i if name == "demos" else 1  # many curves have points in one place
        x = [row["ms_per_decision"] if row["x"] is None else row["x"] * aside for _, row in rows]
        p, low, high = (np.array([row[field] for _, row in rows]) for field in ("success", "low", "high"))
        style = "o" if name == "sampling" else "o-"
        line = axes.errorbar(x, p, yerr=[p - low, high - p], fmt=style, capsize=3, label=curve or None)[0]
        for at, (label, row) in zip(x, rows, strict=True):
            axes.plot([at] * len(row["seeds"]), row["seeds"], "_", color=line.get_color(), markersize=7)
            if name == "sampling":
                axes.annotate(label, (at, row["success"]), fontsize=7, xytext=(4, 4), textcoords="offset points")
    if name != "horizon":
        axes.set_xscale("log")
    if name != "sampling":
        places = sorted({row["x"] for row in table.values()})
        axes.set_xticks(places, map(str, places))
        axes.minorticks_off()
    axes.set(ylim=(-0.03, 1.03), xlabel=AXES[name], ylabel="success (bars: 95 %; ticks: seeds)", title=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_lines(axes, name: str, table: dict[str, dict]) -> None:
    """A point with its interval for each arm, and a small tick for each training seed."""
    for y, row in enumerate(table.values()):
        axes.plot([row["low"], row["high"]], [y, y], color="tab:blue", linewidth=2)
        axes.plot(row["success"], y, "o", color="tab:blue")
        axes.plot(row["seeds"], [y] * len(row["seeds"]), "|", color="black", markersize=9)
    axes.set(xlim=(0, 1), xlabel="success (line: 95 % over episodes; ticks: training seeds)", title=name)
    axes.set_yticks(range(len(table)), table)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)


def draw_dreams(axes, done: dict[str, list[dict]], groups: int = 4) -> None:
    """Success of the episodes in order of what their first dreams missed, in groups of one size."""
    for label, results in done.items():
        won = np.array([w for result in results for w in episodes(result).values()])
        error = dream_errors(results, "first_dream_error")
        won, error = won[np.isfinite(error)], error[np.isfinite(error)]
        parts = [part for part in np.array_split(np.argsort(error), groups) if len(part)]
        rows = [(np.median(error[part]), won[part].mean(), *wilson(won[part].sum(), len(part))) for part in parts]
        x, p, low, high = map(np.array, zip(*rows, strict=True))
        axes.errorbar(x, p, yerr=[p - low, high - p], fmt="o-", capsize=3, label=label)
    axes.set(ylim=(-0.03, 1.03), xlabel="share of the change that the first dream missed", title="success by quarter")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
