"""What came out of a group of arms: success rates, differences, AUROCs, their 95 % intervals, verdicts.

success: see `successes`. done: {label: {training seed: line of runs.jsonl}} of all arms that have any.
"""

import numpy as np
from scipy import stats

from ablations.protocol import Arm
from util.cli import wilson

SMALL = 0.1  # a difference in success that is surely smaller than this is called equal


def successes(results: list[dict]) -> np.ndarray:
    """Whether each episode of an arm's results was a success: (seeds, tasks, scenes) bool."""
    return np.array([[list(map(int, row)) for row in result["success"].values()] for result in results], dtype=bool)


def mean_and_error(x: np.ndarray) -> tuple[float, float, float]:
    """Mean of x (seeds, tasks, scenes), its standard error, and how many of these a 95 % interval has on each side.

    Training seeds and scenes are drawn from many; the tasks are fixed. Each seed meets all scenes. So the variance of
    the mean has a part of the seeds, one of the scenes within a task, and a rest, which the mean squares of an analysis
    of variance give; degrees of freedom after Satterthwaite (Biometrics Bulletin 2, 1946). With one seed it is unknown
    how much seeds differ, and left out.
    """
    S, T, K = x.shape
    mean, task, cell, scene = x.mean(), x.mean((0, 2), keepdims=True), x.mean(2, keepdims=True), x.mean(0)
    freedom = S - 1, T * (K - 1), (S - 1) * T * (K - 1)
    of_scene = S * ((scene - scene.mean(1, keepdims=True)) ** 2).sum() / freedom[1]
    total, degrees = of_scene, freedom[1]
    if S > 1:
        of_seed = T * K * ((x.mean((1, 2)) - mean) ** 2).sum() / freedom[0]
        rest = ((x - cell - scene + task) ** 2).sum() / freedom[2]
        total = max(of_seed + of_scene - rest, of_seed, of_scene)
        spread = sum(part**2 / df for part, df in zip((of_seed, of_scene, rest), freedom, strict=True))
        degrees = max(total**2 / spread, freedom[0]) if total else freedom[0]
    return float(mean), float(np.sqrt(total / x.size)), float(stats.t.ppf(0.975, degrees))


def rate(success: np.ndarray) -> tuple[float, float, float]:
    """Share of successes and its 95 % interval: Wilson's, of as many independent episodes as would leave the share as
    uncertain as seeds and scenes do.
    """
    mean, error, z = mean_and_error(success.astype(float))
    if error == 0:  # each task always ended alike
        return mean, *wilson(success.sum(), success.size)
    n = min(mean * (1 - mean) / error**2, success.size)
    middle, half = mean + z**2 / (2 * n), z * np.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    return mean, float((middle - half) / (1 + z**2 / n)), float((middle + half) / (1 + z**2 / n))


def difference(better: np.ndarray, worse: np.ndarray) -> tuple[float, float, float]:
    """Difference of two arms' success and its 95 % interval, paired by seed, task and scene."""
    mean, error, z = mean_and_error(better.astype(float) - worse)
    if error == 0:  # all pairs alike: Wilson's bound on how many may not be
        other = wilson(0, better.size)[1]
        return mean, max(mean - other, -1.0), min(mean + other, 1.0)
    return mean, mean - z * error, mean + z * error


def auroc(success: np.ndarray, error: np.ndarray) -> tuple[float, float, float] | None:
    """AUROC of success by video error and its 95 % interval; None where there are only successes, or only failures.

    It is the share of pairs of a success and a failure in which the success has the lower error; 0.5 is chance. Pairs
    are made within a training seed and a task, so that neither a good seed nor an easy task counts as a good video. The
    interval is a bootstrap of the scenes; training seeds are too few to draw from. error: NaN where it is unknown.
    """
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


def verdict(low: float, high: float) -> str:
    """What a 95 % interval of a difference says about "more than 0"; else, whether all of it is within SMALL of 0.

    The second is a test of equivalence (Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987).
    """
    if low > 0:
        return "holds"
    if high < 0:
        return "does not hold"
    return f"equal within {100 * SMALL:.0f} points" if max(-low, high) < SMALL else "inconclusive"


def tabulate(arms: list[Arm], done: dict[str, dict[int, dict]]) -> dict[str, dict]:
    """Numbers of each arm of a group that has results, by its label, over the training seeds that all of them have; an
    arm that has none of the seeds of those before it is left out.

    difference: success of the group's first arm minus this one's, if that has results; auroc: of success by video
    error. Both are (value, low, high), where they are known.
    """
    seeds, shown, table, first = set(), {}, {}, None
    for arm in arms:
        if both := set(done.get(arm.label, ())) & (seeds or set(done.get(arm.label, ()))):
            seeds, shown[arm.label] = both, arm
    for label, arm in shown.items():
        lines = [done[label][seed] for seed in sorted(seeds)]
        success = successes(lines)
        row = dict(zip(("success", "low", "high"), rate(success), strict=True))
        row |= {"seeds": sorted(seeds), "counts": success.sum((1, 2)), "episodes": success[0].size}
        row |= {"labelled": arm.labelled, "paper": arm.paper}
        row |= {"ms_per_decision": np.median([line["ms_per_decision"] for line in lines])}
        if first is not None:
            row["difference"] = difference(first, success)
            row["verdict"] = verdict(*row["difference"][1:]) if len(seeds) > 1 else "one seed"
        if "first_video_error" in lines[0]:
            row["auroc"] = auroc(success, np.array([list(line["first_video_error"].values()) for line in lines], float))
        first, table[label] = success if arm is arms[0] else first, row
    return table
