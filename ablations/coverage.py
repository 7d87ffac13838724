"""How often the interval of a difference holds the truth: two arms are simulated again and again.

    python -m ablations.coverage                 # some seconds; the share of intervals that hold it should be 0.95

The chance of a success is a logistic function of the arm, the task, the training seed (each arm's own, of each task its
own as well) and the scene, whose difficulty the arms share in part.
"""

import numpy as np
from scipy.special import expit

from ablations.statistics import mean_and_error, student
from util.cli import command

TASKS, SCENES = 3, 30
SPREADS = {"seeds alike": 0.0, "seeds that differ": 0.4, "seeds that differ much": 0.8}
GAP = 0.8  # in logits, between the arms
TRIALS = 2000


def sample_gaps(rng, seeds, spread, scenes=SCENES):
    """Differences of two arms' successes, (seeds, TASKS, scenes), each -1, 0 or 1."""
    hard = rng.normal(0, 1, (1, TASKS, scenes))
    level = np.linspace(-0.5, 1.0, TASKS)[None, :, None]

    def arm(gain):
        seed = rng.normal(0, spread, (seeds, 1, 1)) + rng.normal(0, spread / 2, (seeds, TASKS, 1))
        own = rng.normal(0, 0.7, (1, TASKS, scenes))
        return rng.random((seeds, TASKS, scenes)) < expit(level + gain + seed + hard + own)

    return arm(GAP).astype(float) - arm(0.0)


def coverage(seeds, spread, trials=TRIALS):
    """(share of 95 % intervals that hold the true difference, their mean half width)."""
    rng = np.random.default_rng(0)
    truth = sample_gaps(rng, 400, spread, scenes=2000).mean()
    held, widths = [], []
    for _ in range(trials):
        mean, error, freedom = mean_and_error(sample_gaps(rng, seeds, spread))
        widths.append(student(freedom) * error)
        held.append(abs(mean - truth) <= widths[-1])
    return float(np.mean(held)), float(np.mean(widths))


def main():
    print(f"{TASKS} tasks, {SCENES} scenes each, {TRIALS} trials: coverage, mean half width")
    for name, spread in SPREADS.items():
        for seeds in (1, 3, 5, 10):
            held, width = coverage(seeds, spread)
            print(f"{name:24} {seeds:2} seeds: {held:.3f}, {width:.2f}", flush=True)


if __name__ == "__main__":
    command(main)
