"""What came out of a question: success rates, differences, AUROCs, their 95 % intervals, verdicts, tables.

results: the lines of runs.jsonl of one arm. done: {label: {training seed: line}} of all arms that have any.
"""

import numpy as np
from scipy import stats

from ablations.protocol import ABLATIONS, Arm, Claim, Protocol, rows_of
from util.cli import wilson

RULE = "|---|---|---|---|---|---|"
SMALL = 0.1  # a difference in success that is surely smaller than this is called equal


def successes(results: list[dict]) -> np.ndarray:
    """Whether each episode of an arm's results was a success: (seeds, tasks, scenes) bool."""
    return np.array([[list(map(int, row)) for row in result["success"].values()] for result in results], dtype=bool)


def video_errors(results: list[dict], field: str = "first_video_error") -> np.ndarray:
    """Normalised MSE of the generated videos, shaped as `successes`; NaN where nothing was going to move."""
    return np.array([list(result[field].values()) for result in results], dtype=float)


def mean_and_error(x: np.ndarray) -> tuple[float, float, float]:
    """Mean of x (seeds, tasks, scenes), its standard error, and the degrees of freedom of that error.

    Training seeds and scenes are drawn from many; the tasks are fixed. Each seed meets all scenes. So the variance of
    the mean has a part of the seeds, one of the scenes within a task, and a rest, which the mean squares of an analysis
    of variance give; degrees of freedom after Satterthwaite (Biometrics Bulletin 2, 1946). With one seed it is unknown
    how much seeds differ, and left out.
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


def rate(success: np.ndarray) -> tuple[float, float, float]:
    """Share of successes (seeds, tasks, scenes) and its 95 % interval: Wilson's, of as many independent episodes as
    would leave the share as uncertain as seeds and scenes do.
    """
    mean, error, freedom = mean_and_error(success.astype(float))
    if error == 0:  # each task always ended alike
        return mean, *wilson(success.sum(), success.size)
    n, z = min(mean * (1 - mean) / error**2, success.size), student(freedom)
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


def student(freedom: float) -> float:
    """How many standard errors a two-sided 95 % interval has on each side, with so many degrees of freedom."""
    return float(stats.t.ppf(0.975, freedom))


def auroc(results: list[dict], field: str = "first_video_error") -> tuple[float, float, float] | None:
    """AUROC of success by video error and its 95 % interval; None where there are only successes, or only failures.

    It is the share of pairs of a success and a failure in which the success has the lower error; 0.5 is chance. Pairs
    are made within a training seed and a task, so that neither a good seed nor an easy task counts as a good video. The
    interval is a bootstrap of the scenes; training seeds are too few to draw from.
    """
    success, error = successes(results), video_errors(results, field)
    known = np.isfinite(error)
    pairs = (success & known)[..., :, None] & (~success & known)[..., None, :]  # (seeds, tasks, scenes, scenes)
    if not pairs.any():
        return None
    of_success, of_failure = error[..., :, None], error[..., None, :]
    right = (pairs * ((of_success < of_failure) + 0.5 * (of_success == of_failure))).sum((0, 1))  # a tie counts half
    pairs = pairs.sum((0, 1))  # (scenes, scenes)

    def share(scenes, axis=-1):  # (..., scenes)
        drawn = scenes[..., :, None], scenes[..., None, :]
        return right[drawn].sum((-2, -1)) / np.maximum(pairs[drawn].sum((-2, -1)), 1e-9)

    scenes, rng = np.arange(len(pairs)), np.random.default_rng(0)
    how = {"n_resamples": 4000, "vectorized": True, "method": "percentile", "rng": rng}
    interval = stats.bootstrap((scenes,), share, **how).confidence_interval
    return float(share(scenes)), float(interval.low), float(interval.high)


def verdict(low: float, high: float, middle: float = 0.0, small: float = 0.0) -> str:
    """What a 95 % interval says about "more than `middle`"; else, whether all of it is less than `small` away from 0.

    The second is a test of equivalence (Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987).
    """
    if low > middle:
        return "holds"
    if high < middle:
        return "does not hold"
    return f"equal within {100 * small:.0f} points" if max(-low, high) < small else "inconclusive"


def judge(claim: Claim, done: dict[str, dict[int, dict]]) -> dict | None:
    """A claim's value, low, high, verdict and `rates` of both sides, over the training seeds that all its arms have.

    None where there is no such seed, or where all episodes ended alike.
    """
    seeds = sorted(set.intersection(*({*done.get(label, ())} for side in claim.sides for label in side)))
    if not seeds:
        return None
    sides = [pool([[done[label][seed] for seed in seeds] for label in side]) for side in claim.sides]
    interval = difference(*sides) if claim.worse else auroc(*sides)
    if interval is None:
        return None
    value, low, high = interval
    middle, small = (0.0, SMALL) if claim.worse else (0.5, 0.0)
    judged = {"value": value, "low": low, "high": high, "seeds": seeds, "rates": [rate(successes(s)) for s in sides]}
    return judged | {"verdict": verdict(low, high, middle, small) if len(seeds) > 1 else "one seed"}


def pool(arms: list[list[dict]]) -> list[dict]:
    """The results of arms that were evaluated on a task each, seed by seed, as those of one arm."""
    return [{**of_seed[0], "success": {task: row for result in of_seed for task, row in result["success"].items()}}
            for of_seed in zip(*arms, strict=True)]  # fmt: skip


# ------------------------------------------------------------------------ tables


def tabulate(arms: list[Arm], done: dict[str, dict[int, dict]]) -> dict[str, dict]:
    """Numbers of each arm that has results, by its label."""
    table = {}
    for arm in arms:
        if not (results := [*done.get(arm.label, {}).values()]):
            continue
        success, low, high = rate(successes(results))
        table[arm.label] = {
            "success": success, "low": low, "high": high, "seeds": [*done[arm.label]],
            "of_seeds": successes(results).mean((1, 2)).tolist(), "episodes": successes(results)[0].size,
            "ms_per_decision": float(np.median([result["ms_per_decision"] for result in results])),
            "curve": arm.curve, "x": arm.x,
        }  # fmt: skip
    return table


def report(name: str, protocol: Protocol, done: dict[str, dict[int, dict]]) -> list[str]:
    """The lines of a question's two tables in Markdown: its arms, and its claims."""
    lines = ["", f"## {name}: {ABLATIONS[name].__doc__.splitlines()[0]}", ""]
    lines += ["| arm | training seeds | success rate | successes of each seed | ms a decision |", RULE[4:]]
    for label, row in tabulate(rows_of(Arm, name, protocol), done).items():
        success = interval(row["success"], row["low"], row["high"])
        counts = " ".join(f"{share * row['episodes']:.0f}" for share in row["of_seeds"]) + f" of {row['episodes']}"
        lines.append(f"| {label} | {spans(row['seeds'])} | {success} | {counts} | {row['ms_per_decision']:.0f} |")
    lines += ["", "| claim | training seeds | rates | difference or AUROC | paper | verdict |", RULE]
    for claim in rows_of(Claim, name, protocol):
        row = f" | | | {claim.paper} | no result"
        if judged := judge(claim, done):
            rates = " / ".join(interval(*of_side) for of_side in judged["rates"])
            value = interval(judged["value"], judged["low"], judged["high"], "+" if claim.worse else "")
            row = f"{spans(judged['seeds'])} | {rates} | {value} | {claim.paper} | {judged['verdict']}"
        lines.append(f"| {claim.text} | {row} |")
    return lines


def interval(value: float, low: float, high: float, sign: str = "") -> str:
    """A number with its interval."""
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def spans(seeds: list[int]) -> str:
    """Training seeds in short: 0 to 4, or 0 1 5."""
    whole = len(seeds) > 2 and seeds == [*range(seeds[0], seeds[-1] + 1)]
    return f"{seeds[0]} to {seeds[-1]}" if whole else " ".join(map(str, seeds))
