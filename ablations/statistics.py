"""What came out of an ablation: rates, differences, AUROCs, their 95 % intervals, verdicts, plots, table rows."""

from pathlib import Path

import numpy as np
from scipy import stats

from ablations.protocol import AXES, Arm, Claim
from cli import wilson
from figures import new_figure

SMALL = 0.1  # a difference in success that is surely smaller than this is called so; chosen when results had been seen
HEADER = "| claim | command | seeds | ours | difference | paper | |\n|---|---|---|---|---|---|---|"


def successes(results: list[dict]) -> np.ndarray:
    """Whether each episode of an arm's results was a success: (seeds, tasks, scenes) bool."""
    return np.array([[list(map(int, row)) for row in result["won"].values()] for result in results], dtype=bool)


def dream_errors(results: list[dict], field: str) -> np.ndarray:
    """Normalised MSE of the dreams of each episode, shaped as `successes`; NaN where nothing was going to move."""
    return np.array([list(result[field].values()) for result in results], dtype=float)


def mean_and_error(x: np.ndarray) -> tuple[float, float, float]:
    """Mean of x (seeds, tasks, scenes), its standard error, and the degrees of freedom of that error.

    Training seeds and scenes are drawn from many; the tasks are those that they are. Each seed meets all scenes. So the
    variance of the mean has a part of the seeds, one of the scenes within a task, and a rest, which the mean squares
    of an analysis of variance give; degrees of freedom after Satterthwaite (Biometrics Bulletin 2, 1946). Of one seed,
    how much seeds differ is not known, and left out. python -m ablations.coverage checks the interval that comes of it.
    """
    S, T, K = x.shape
    mean, task, cell, scene = x.mean(), x.mean((0, 2), keepdims=True), x.mean(2, keepdims=True), x.mean(0)
    of_scene = S * ((scene - scene.mean(1, keepdims=True)) ** 2).sum() / (T * (K - 1))
    if S == 1:
        return float(mean), float(np.sqrt(of_scene / x.size)), T * (K - 1)
    of_seed = T * K * ((x.mean((1, 2)) - mean) ** 2).sum() / (S - 1)
    rest = ((x - cell - scene + task) ** 2).sum() / ((S - 1) * T * (K - 1))
    total = max(of_seed + of_scene - rest, of_seed, of_scene)
    if total == 0:  # all alike
        return float(mean), 0.0, S - 1
    spread = of_seed**2 / (S - 1) + of_scene**2 / (T * (K - 1)) + rest**2 / ((S - 1) * T * (K - 1))
    return float(mean), float(np.sqrt(total / x.size)), max(total**2 / spread, S - 1)


def rate(won: np.ndarray) -> tuple[float, float, float]:
    """Share of successes (seeds, tasks, scenes) and its 95 % interval: Wilson's, of as many independent episodes as
    would leave the share as uncertain as seeds and scenes do.
    """
    mean, error, freedom = mean_and_error(won.astype(float))
    if error == 0:  # each task always ended alike
        return mean, *wilson(won.sum(), won.size)
    n, z = min(mean * (1 - mean) / error**2, won.size), student(freedom)
    middle, half = mean + z**2 / (2 * n), z * np.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    low, high = (float((middle + side * half) / (1 + z**2 / n)) for side in (-1, 1))
    return mean, low, high


def difference(better: list[dict], worse: list[dict]) -> tuple[float, float, float]:
    """Difference in success and its 95 % interval, from two arms' results, paired by seed, task and scene."""
    x = successes(better).astype(float) - successes(worse)
    mean, error, freedom = mean_and_error(x)
    if error == 0:  # all pairs alike: Wilson's bound on how many may not be
        other = wilson(0, x.size)[1]
        return mean, max(mean - other, -1.0), min(mean + other, 1.0)
    half = student(freedom) * error
    return mean, mean - half, mean + half


def predicted(better: list[dict], worse: list[dict]) -> tuple[float, float, float]:
    """Difference in success, and where 95 % of further training seeds should have theirs, in the same scenes."""
    of_seed = (successes(better).astype(float) - successes(worse)).mean((1, 2))
    seeds, episodes = len(of_seed), successes(better)[0].size
    half = student(seeds - 1) * max(of_seed.std(ddof=1), 1 / episodes) * np.sqrt(1 + 1 / seeds)
    return float(of_seed.mean()), float(of_seed.mean() - half), float(of_seed.mean() + half)


def student(freedom: float) -> float:
    """How many standard errors a two-sided 95 % interval has on each side, with so many degrees of freedom."""
    return float(stats.t.ppf(0.975, freedom))


def auroc(results: list[dict], field: str) -> tuple[float, float, float] | None:
    """AUROC of success by dream error and its 95 % interval; None where there are only successes, or only failures.

    It is the share of pairs of a success and a failure in which the success has the lower error; 0.5 is chance. Pairs
    are made within a training seed and a task, so that neither a good seed nor an easy task counts as a good dream. The
    interval is a bootstrap of the scenes; training seeds are too few to draw from.
    """
    won, error = successes(results), dream_errors(results, field)
    known = np.isfinite(error)
    pairs = (won & known)[..., :, None] & (~won & known)[..., None, :]  # (seeds, tasks, scenes, scenes)
    if not pairs.any():
        return None
    ours, theirs = error[..., :, None], error[..., None, :]
    right = (pairs * ((ours < theirs) + 0.5 * (ours == theirs))).sum((0, 1))  # (scenes, scenes); a tie counts half
    pairs = pairs.sum((0, 1))

    def share(scenes):  # (..., scenes)
        drawn = scenes[..., :, None], scenes[..., None, :]
        return right[drawn].sum((-2, -1)) / np.maximum(pairs[drawn].sum((-2, -1)), 1e-9)

    return float(share(np.arange(len(pairs)))), *bootstrap(len(pairs), share)


def partial_correlation(results: list[dict]) -> tuple[float, float, float] | None:
    """Rank correlation of success with the first dream's error, the expert's steps in the same scene held constant,
    and its 95 % interval; None where all episodes ended alike.

    Ranks are taken within a training seed and a task, and what a line through the ranks of the steps explains of the
    other two is taken away. The interval is a bootstrap of the scenes.
    """
    won, error = successes(results).astype(float), dream_errors(results, "first_dream_error")
    length = np.array([list(result["expert_steps"].values()) for result in results], dtype=float)
    error = np.where(np.isfinite(error), error, np.nanmedian(error))

    def centred(x):
        ranks = stats.rankdata(x, axis=-1)
        return ranks - ranks.mean(-1, keepdims=True)

    ranks = [centred(x) for x in (won, error, length)]

    def rho(scenes):  # (..., scenes)
        w, e, n = (np.moveaxis(r[..., scenes], (0, 1), (-2, -1)).reshape(*scenes.shape[:-1], -1) for r in ranks)
        along = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-9)
        w, e = (x - along * (x * along).sum(-1, keepdims=True) for x in (w, e))
        return (w * e).sum(-1) / np.maximum(np.linalg.norm(w, axis=-1) * np.linalg.norm(e, axis=-1), 1e-9)

    if not ranks[0].any():
        return None
    count = won.shape[-1]
    return float(rho(np.arange(count))), *bootstrap(count, rho)


def ranks_within(x: np.ndarray, groups: list[str]) -> np.ndarray:
    """The rank of each number among those of its group, between 0 and 1."""
    ranks, groups = np.empty(len(x)), np.array(groups)
    for group in set(groups):
        ranks[groups == group] = (stats.rankdata(x[groups == group]) - 0.5) / (groups == group).sum()
    return ranks


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation and its 95 % interval, a bootstrap of the pairs."""

    def rho(pairs):
        return np.array([stats.spearmanr(x[i], y[i]).statistic for i in pairs.reshape(-1, len(x))])

    with np.errstate(invalid="ignore"):
        return float(rho(np.arange(len(x)))[0]), *bootstrap(len(x), lambda pairs: np.nan_to_num(rho(pairs)))


def bootstrap(count: int, statistic) -> tuple[float, float]:
    """95 % interval of a statistic of indices (..., count), which are drawn anew each time."""
    found = stats.bootstrap(
        (np.arange(count),), lambda indices, axis: statistic(indices), n_resamples=4000, vectorized=True,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def verdict(low: float, high: float, margin: float = 0.0, small: float = 0.0) -> str:
    """What an interval says about "more than `margin`"; else, whether all of it is less than `small` away from 0.

    The second is a test of equivalence (Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987), a stricter one:
    of an interval of 95 % instead of 90.
    """
    if low > margin:
        return "holds"
    if high < margin:
        return "does not hold"
    return f"within {100 * small:.0f} points" if max(-low, high) < small else "inconclusive"


def tabulate(arms: dict[str, Arm], done: dict[str, list[dict]]) -> dict[str, dict]:
    """A row of numbers for each finished arm, by its label."""
    table = {}
    for label, results in done.items():
        won = successes(results)
        table[label] = dict(zip(("success", "low", "high"), rate(won), strict=True)) | {
            "episodes": won.size, "seeds": won.mean((1, 2)).tolist(),
            "ms_per_decision": float(np.median([result["ms_per_decision"] for result in results])),
            "train_seconds": [result["train_seconds"] for result in results],
            "curve": arms[label].curve, "x": arms[label].x,
        }  # fmt: skip
        if all("train_flops" in result for result in results):
            table[label]["train_flops"] = results[0]["train_flops"]
        if all("dream_error" in result for result in results):
            table[label]["dream_error"] = float(np.nanmedian(dream_errors(results, "dream_error")))
        if all("dream" in result for result in results):
            table[label]["dream"] = {f: [result["dream"][f] for result in results] for f in results[0]["dream"]}
    return table


def judge(claim: Claim, command: str, done: dict[str, list[dict]]) -> tuple[dict | None, str]:
    """A claim's numbers and verdict, None where an arm was not run, and its row of the table.

    Where one arm has more training seeds than the other, those that both have count.
    """
    row = f"| {claim.text} | `{command}` |"
    needed = [label for side in claim.sides for label in side]
    if any(label not in done for label in needed):
        return None, f"{row} | not run | | {claim.paper} | |"
    seeds = min(len(done[label]) for label in needed)
    results = [pool([done[label][:seeds] for label in side]) for side in claim.sides]
    row, more = f"{row} {seeds} |", {}
    if claim.partial:
        found = partial_correlation(*results)
        if found is None:
            return None, f"{row} all episodes ended alike | | {claim.paper} | inconclusive |"
        numbers, middle = "partial rank correlation {:+.2f} | [{:+.2f}, {:+.2f}]".format(*found), 0.0
    elif claim.worse:
        found, middle = difference(*results), claim.margin
        ours = ["{:.2f} [{:.2f}, {:.2f}]".format(*rate(successes(of_arm))) for of_arm in results]
        numbers = " / ".join(ours) + " | {:+.2f} [{:+.2f}, {:+.2f}]".format(*found)
    else:
        # Of the first decision: what is generated later may be wrong because the robot has already gone astray.
        found, middle = auroc(*results, "first_dream_error"), 0.5
        if found is None:
            return None, f"{row} all episodes ended alike | | {claim.paper} | inconclusive |"
        numbers = "AUROC {:.2f} | [{:.2f}, {:.2f}]".format(*found)
        more = {"all_decisions": auroc(*results, "dream_error")}
    value, low, high = found
    small = SMALL if claim.worse else 0.0
    told = verdict(*((-high, -low) if claim.partial else (low, high)), middle, small) if seeds > 1 else "one seed"
    kept = {"claim": claim.text, "value": value, "low": low, "high": high, "verdict": told, "paired_seeds": seeds}
    return kept | more, f"{row} {numbers} | {claim.paper} | {told} |"


def pool(arms: list[list[dict]]) -> list[dict]:
    """The results of arms that were tried on a task each, seed by seed, as those of one arm; of one, as they are."""
    if len(arms) == 1:
        return arms[0]
    return [
        {"won": {task: row for one in of_seed for task, row in one["won"].items()}}
        for of_seed in zip(*arms, strict=False)
    ]


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
    """A policy a point: its success over how good its held-out dreams and decisions are."""
    titles = {"dream": "one-pass dream, dB better than copying", "action error": "held-out action error"}
    with new_figure(path, len(measured), (9, 3.4)) as axes:
        for one, (name, x) in zip(axes, measured.items(), strict=True):
            one.plot(x, won, "o", alpha=0.7)
            one.set(xlabel=titles[name], ylabel="success", ylim=(-0.03, 1.03))
            one.grid(alpha=0.3)


def draw_curves(axes, name: str, table: dict[str, dict]) -> None:
    """Success over the ablation's axis; every arm with its interval, a small tick for each training seed."""
    middle = np.mean([row["ms_per_decision"] for row in table.values()])
    for i, curve in enumerate(dict.fromkeys(row["curve"] for row in table.values())):
        rows = {label: row for label, row in table.items() if row["curve"] == curve}
        rows = dict(sorted(rows.items(), key=lambda row: row[1]["x"] or 0))
        aside = 1.04**i if name in ("demos", "scaling") else 1  # many curves have points in one place
        x = [row["ms_per_decision"] if row["x"] is None else row["x"] * aside for row in rows.values()]
        rates = [(row["success"], row["low"], row["high"]) for row in rows.values()]
        color = draw_rates(axes, x, rates, fmt="o" if name == "sampling" else "o-", label=curve or None)
        for at, (label, row) in zip(x, rows.items(), strict=True):
            axes.plot([at] * len(row["seeds"]), row["seeds"], "_", color=color, markersize=7)
            if name == "sampling":
                away, side = (4, "left") if at < middle else (-4, "right")  # away from the frame
                place = at, row["success"]
                axes.annotate(label, place, fontsize=7, xytext=(away, 4), ha=side, textcoords="offset points")
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
    if name != "horizon":
        axes.set_xscale("log")
    if name != "sampling":
        places = sorted({row["x"] for row in table.values()})
        axes.set_xticks(places, map(str, places))
        axes.minorticks_off()
    axes.set(xlabel=AXES[name])
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
