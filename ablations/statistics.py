"""What came out of an ablation: rates, differences, AUROCs, their 95 % intervals, verdicts, plots, table rows."""

from pathlib import Path

import numpy as np
from scipy import stats

from ablations.protocol import AXES, Arm, AurocClaim, Claim
from cli import replacing, wilson

HEADER = "| claim | command | seeds | ours | difference | paper | |\n|---|---|---|---|---|---|---|"


def episodes(result: dict) -> dict:
    """(task, scene) -> 1 for a success, 0 for a failure, from a run's result."""
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
    low, high = bootstrap(gaps.shape[1], lambda scenes: gaps.mean(0)[scenes].mean(-1))
    mean, seeds = gaps.mean(), len(gaps)
    if seeds > 1:
        half = student(seeds) * stats.sem(gaps.mean(1))
        low, high = min(low, mean - half), max(high, mean + half)
    return float(mean), float(low), float(high)


def student(seeds: int) -> float:
    """How many standard errors a two-sided 95 % interval has on each side, with so many training seeds."""
    return float(stats.t.ppf(0.975, seeds - 1))


def auroc(results: list[dict], field: str) -> tuple[float, float, float] | None:
    """AUROC of success by dream error and its 95 % interval; None where there are only successes, or only failures.

    It is the share of pairs of a success and a failure in which the success has the lower error; 0.5 is chance. Pairs
    are made within a training seed and a task, so that neither a good seed nor an easy task counts as a good dream. The
    interval is a bootstrap of the scenes; training seeds are too few to draw from.
    """
    tasks = list(results[0]["won"])
    won = np.array([[list(map(int, result["won"][task])) for task in tasks] for result in results], dtype=bool)
    error = np.array([[result[field][task] for task in tasks] for result in results], dtype=float)
    known = np.isfinite(error)  # (seeds, tasks, scenes), as won and error; NaN where nothing was going to move

    def pooled(scenes):  # (..., scenes)
        """U statistics of Mann and Whitney, added up and divided by how many pairs there are."""
        drawn = [field[..., scenes] for field in (won & known, ~won & known, np.where(known, error, np.inf))]
        successes, failures, ranks = drawn[0].sum(-1), drawn[1].sum(-1), stats.rankdata(drawn[2], axis=-1)
        u = (ranks * drawn[1]).sum(-1) - failures * (failures + 1) / 2
        return u.sum((0, 1)) / np.maximum((successes * failures).sum((0, 1)), 1e-9)

    if not ((won & known).any(-1) & (~won & known).any(-1)).any():
        return None
    return float(pooled(np.arange(won.shape[-1]))), *bootstrap(won.shape[-1], pooled)


def bootstrap(count: int, statistic) -> tuple[float, float]:
    """95 % interval of a statistic of indices (..., count), which are drawn anew each time."""
    found = stats.bootstrap(
        (np.arange(count),), lambda indices, axis: statistic(indices), n_resamples=4000, vectorized=True,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def verdict(low: float, high: float, margin: float = 0.0) -> str:
    """What an interval says about "more than `margin`"."""
    return "holds" if low > margin else "does not hold" if high < margin else "inconclusive"


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
        if all("dream" in result for result in results):
            table[label]["dream"] = {f: [result["dream"][f] for result in results] for f in results[0]["dream"]}
    return table


def dream_errors(results: list[dict], field: str) -> np.ndarray:
    """Normalised MSE of the dreams of each episode, in the order of `episodes`; NaN where nothing was going to move."""
    return np.array([e for result in results for row in result[field].values() for e in row], dtype=float)


def judge(claim: Claim | AurocClaim, command: str, done: dict[str, list[dict]]) -> tuple[dict | None, str]:
    """A claim's numbers and verdict, None where an arm was not run, and its row of the table.

    Where one arm has more training seeds than the other, those that both have count.
    """
    row = f"| {claim.text} | `{command}` |"
    needed = (claim.arm,) if isinstance(claim, AurocClaim) else (claim.better, claim.worse)
    if any(label not in done for label in needed):
        return None, f"{row} | not run | | {claim.paper} | |"
    seeds = min(len(done[label]) for label in needed)
    results = [done[label][:seeds] for label in needed]
    row = f"{row} {seeds} |"
    if isinstance(claim, AurocClaim):
        # Of the first decision: what is dreamt later may be wrong because the robot has already gone astray.
        found = auroc(*results, "first_dream_error")
        if found is None:
            return None, f"{row} all episodes ended alike | | {claim.paper} | inconclusive |"
        middle, numbers = 0.5, f"AUROC {found[0]:.2f} | [{found[1]:.2f}, {found[2]:.2f}]"
    else:
        found, middle = difference(*results), claim.margin
        ours = ["{:.2f} [{:.2f}, {:.2f}]".format(*rate(of_arm)) for of_arm in results]
        numbers = " / ".join(ours) + f" | {found[0]:+.2f} [{found[1]:+.2f}, {found[2]:+.2f}]"
    value, low, high = found
    told = verdict(low, high, middle) if seeds > 1 else "one seed"
    kept = {"claim": claim.text, "value": value, "low": low, "high": high, "verdict": told, "paired_seeds": seeds}
    if isinstance(claim, AurocClaim):
        kept["all_decisions"] = auroc(*results, "dream_error")
    return kept, f"{row} {numbers} | {claim.paper} | {told} |"


def plot(name: str, table: dict[str, dict], done: dict[str, list[dict]], path: Path) -> None:
    """Success with intervals: curves where the arms have an axis, else a line each; beside it, how good dreams are."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scored = {
        label: results for label, results in done.items() if name == "oracle"
        and all("first_dream_error" in result and "feed" not in result["evaluate"] for result in results)
    }  # fmt: skip
    panels = 3 if name == "scaling" else 2 if scored else 1
    height = 3.6 if name in AXES else max(3.0 if scored else 1.6, 0.6 + 0.36 * len(table))
    figure, axes = plt.subplots(1, panels, figsize=(3 + 4 * panels, height), layout="constrained", squeeze=False)
    (draw_curves if name in AXES else draw_lines)(axes[0, 0], name, table)
    if scored:
        draw_dreams(axes[0, 1], scored)
    if name == "scaling":
        draw_held_out(axes[0, 1], table, {"psnr_dream": ("8 passes", "o-"), "psnr_one_pass": ("one pass", "s--")})
        axes[0, 1].set(xlabel=AXES[name], title="held-out dream, PSNR in dB")
        draw_held_out(axes[0, 2], table, {"action_error": ("one-pass decision", "o-")})
        axes[0, 2].set(xlabel=AXES[name], title="held-out action error, share of range")
    with replacing(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)


def draw_curves(axes, name: str, table: dict[str, dict]) -> None:
    """Success over the ablation's axis; every arm with its interval, a small tick for each training seed."""
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = [(label, row) for label, row in table.items() if row["curve"] == curve]
        aside = 1.04**i if name in ("demos", "scaling") else 1  # many curves have points in one place
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
        mark_places(axes, table)
    axes.set(ylim=(-0.03, 1.03), xlabel=AXES[name], ylabel="success (bars: 95 %; ticks: seeds)", title=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def mark_places(axes, table: dict[str, dict]) -> None:
    """A tick of the x axis wherever an arm lies, and nowhere else."""
    places = sorted({row["x"] for row in table.values()})
    axes.set_xticks(places, map(str, places))
    axes.minorticks_off()


def draw_held_out(axes, table: dict[str, dict], fields: dict[str, tuple[str, str]]) -> None:
    """Held-out measures over the ablation's axis, means over seeds; fields: {measure: (name, line style)}."""
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = [row for row in table.values() if row["curve"] == curve]
        for field, (name, style) in fields.items():
            means = [np.mean(row["dream"][field]) for row in rows]
            axes.plot([row["x"] for row in rows], means, style, color=f"C{i}", label=f"{curve}, {name}", markersize=4)
    axes.set_xscale("log")
    mark_places(axes, table)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


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
    """Success of the episodes in order of the error of their first dreams, in groups of one size."""
    for label, results in done.items():
        won = np.array([w for result in results for w in episodes(result).values()])
        error = dream_errors(results, "first_dream_error")
        won, error = won[np.isfinite(error)], error[np.isfinite(error)]
        parts = [part for part in np.array_split(np.argsort(error), groups) if len(part)]
        rows = [(np.median(error[part]), won[part].mean(), *wilson(won[part].sum(), len(part))) for part in parts]
        x, p, low, high = map(np.array, zip(*rows, strict=True))
        axes.errorbar(x, p, yerr=[p - low, high - p], fmt="o-", capsize=3, label=label)
    axes.set(ylim=(-0.03, 1.03), xlabel="normalised MSE of the first dream", title="success by quarter")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
