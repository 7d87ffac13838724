"""What came out of an ablation: rates, differences, AUROCs, their 95 % intervals, verdicts, table rows."""

import numpy as np
from scipy import stats

from ablations.protocol import Arm, Claim
from util.cli import wilson

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


def judge(claim: Claim, command: str, done: dict[str, dict[int, dict]]) -> tuple[dict | None, str]:
    """A claim's numbers and verdict, None where an arm was not run, and its row of the table.

    done: of each arm its results by training seed.
    """
    row, more = f"| {claim.text} | `{command}` |", {}
    shared, results = paired(claim, done)
    if not shared:
        return None, f"{row} | not run | | {claim.paper} | |"
    seeds = len(shared)
    row = f"{row} {seeds} |"
    if claim.worse:
        found, middle = difference(*results), claim.margin
        ours = ["{:.2f} [{:.2f}, {:.2f}]".format(*rate(successes(of_arm))) for of_arm in results]
        form = " / ".join(ours) + " | {:+.2f} [{:+.2f}, {:+.2f}]"
    elif claim.partial:
        found, middle = partial_correlation(*results), 0.0
        form = "partial rank correlation {:+.2f} | [{:+.2f}, {:+.2f}]"
    else:  # of the first decision: what is generated later may be wrong because the robot has already gone astray
        found, middle, form = auroc(*results, "first_dream_error"), 0.5, "AUROC {:.2f} | [{:.2f}, {:.2f}]"
        more = {"all_decisions": auroc(*results, "dream_error")}
    if found is None:
        return None, f"{row} all episodes ended alike | | {claim.paper} | inconclusive |"
    value, low, high = found
    small = SMALL if claim.worse else 0.0
    told = verdict(*((-high, -low) if claim.partial else (low, high)), middle, small) if seeds > 1 else "one seed"
    kept = {"claim": claim.text, "value": value, "low": low, "high": high, "verdict": told, "paired_seeds": seeds}
    return kept | more, f"{row} {form.format(*found)} | {claim.paper} | {told} |"


def paired(claim: Claim, done: dict[str, dict[int, dict]]) -> tuple[list[int], list[list[dict]]]:
    """The training seeds that all arms of a claim have, and of each of its sides the results with them."""
    seeds = sorted(set.intersection(*({*done.get(label, ())} for side in claim.sides for label in side)))
    return seeds, [pool([[done[label][seed] for seed in seeds] for label in side]) for side in claim.sides]


def pool(arms: list[list[dict]]) -> list[dict]:
    """The results of arms that were tried on a task each, seed by seed, as those of one arm; of one, as they are."""
    if len(arms) == 1:
        return arms[0]
    return [
        {"won": {task: row for one in of_seed for task, row in one["won"].items()}}
        for of_seed in zip(*arms, strict=False)
    ]
