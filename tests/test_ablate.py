"""The ablations: plans, resuming, what the numbers say."""

import dataclasses
import json

import numpy as np
import pytest
from common import command

import ablate
from ablate import Cell, InputError
from ablations import statistics
from ablations.protocol import ABLATIONS, PROTOCOLS, Arm, claims


def result(cell, won, **more):
    """A finished cell of so many successes in 20 scenes."""
    cell.result.parent.mkdir(parents=True, exist_ok=True)
    made = {"train": cell.train(), "evaluate": cell.evaluate(), "setting": ablate.setting(cell.preset)}
    told = {"ms_per_decision": 1.0, "train_seconds": 2.0, "machine": {}, "won": {"T": "1" * won + "0" * (20 - won)}}
    cell.result.write_text(json.dumps(made | told | more))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_difference_is_paired_and_its_interval_widens_with_seeds_that_disagree():
    """Catches an interval that knows nothing of how much training seeds differ."""
    def arm(*rates):
        return [{"won": {"T": "".join(str(int(i < rate * 20)) for i in range(20))}} for rate in rates]

    agreed = statistics.difference(arm(0.8, 0.8, 0.8), arm(0.5, 0.5, 0.5))
    torn = statistics.difference(arm(1.0, 0.8, 0.6), arm(0.2, 0.5, 0.8))
    assert agreed[0] == pytest.approx(0.3) and torn[0] == pytest.approx(0.3)
    assert agreed[1] > 0 and torn[2] - torn[1] > 1.5 * (agreed[2] - agreed[1])
    assert statistics.difference(arm(0.5), arm(0.5)) == (0, 0, 0)  # the same scenes, won by both: nothing to doubt
    assert [statistics.verdict(*interval) for interval in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1))] == [
        "holds", "does not hold", "cannot tell",
    ]  # fmt: skip
    assert statistics.verdict(-0.02, 0.1, margin=-0.03) == "holds"  # no worse than by three points


def test_a_tie_between_dream_and_success_is_found_only_where_it_is():
    """Catches a measure that sees a tie in noise, or that reads "missed more" as "dreamt better"."""
    rng = np.random.default_rng(0)
    won = "".join(rng.permutation(list("1" * 40 + "0" * 20)))
    noise = rng.random(60)

    def tie(error):
        return statistics.tie([{"won": {"T": won}, "dream_error": {"T": list(error)}}], "dream_error")

    failed = np.array([1 - int(w) for w in won])
    tied, loose, against = tie(noise + failed), tie(noise), tie(noise - failed)
    assert tied == (1, 1, 1) and against == (0, 0, 0)
    assert loose[1] < 0.5 < loose[2] and loose[2] - loose[1] < 0.4
    assert statistics.tie([{"won": {"T": "11"}, "dream_error": {"T": [0.1, 0.2]}}], "dream_error") is None


def test_every_claim_is_about_arms_that_exist():
    """Catches a claim that can never be judged, for want of an arm of that name, and two arms of one name."""
    for protocol in PROTOCOLS.values():
        for name, arms in ABLATIONS.items():
            labels = [arm.label for arm in arms(protocol)]
            assert len(labels) == len(set(labels)), name
            for claim in claims(name, protocol):
                needed = [getattr(claim, field) for field in ("arm", "better", "worse") if hasattr(claim, field)]
                assert needed and set(needed) <= set(labels), (name, claim)


def test_a_generator_is_trained_once_and_before_it_is_taken_over(folder):
    """Catches two processes that train the same policy, or a cell that starts before what it builds on."""
    arms = ABLATIONS["demos"](PROTOCOLS["tiny"])
    lanes = ablate.by_lane([Cell(arm, "tiny", seed) for seed in (1, 0) for arm in arms])
    trained = [str(cell.run) for lane in lanes for cell in {c.run: c for c in lane}.values()]
    assert len(trained) == len(set(trained))
    for lane in lanes:
        assert len({cell.source().run for cell in lane}) == 1
        assert not lane[0].arm.generator or len(lane) == 1
    shared = next(lane for lane in lanes if len(lane) > 1)
    first, *rest = shared[1].commands()
    assert first == shared[0].train() and "--generator" in rest[0]


def test_what_is_there_is_not_run_again_and_another_protocol_is_refused(folder):
    """Catches cells run twice, or numbers of two protocols in one table."""
    cell = Cell(Arm("two_stage"), "tiny", 0)
    assert ablate.read(cell) is None
    result(cell, 15)
    assert ablate.read(cell)["ms_per_decision"] == 1.0
    found = json.loads(cell.result.read_text())
    cell.result.write_text(json.dumps(found | {"train": ["train.py", "--steps", "9"]}))
    with pytest.raises(InputError, match="another protocol"):
        ablate.read(cell)
    cell.result.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        ablate.read(cell)


def test_the_table_says_what_was_not_run(folder):
    """Catches a claim left out of the table, or made from other seeds than those that both of its arms have."""
    methods = {arm.label: arm for arm in ABLATIONS["methods"](PROTOCOLS["tiny"])}
    for seed in range(3):
        result(Cell(methods["two_stage"], "tiny", seed), 18)
        result(Cell(methods["bc"], "tiny", seed), 4)
    result(Cell(methods["joint"], "tiny", 0), 4)
    result(Cell(methods["two_stage"], "tiny", 3), 0)  # a fourth seed, which cloning has not
    rows = ablate.summarise("methods", "tiny", 3)
    assert len(rows) == len(claims("methods", PROTOCOLS["tiny"]))
    assert sum("not run" in row for row in rows) == len(rows) - 1
    cloning = next(row for row in rows if "two-stage beats behaviour cloning" in row)
    assert "| 3 | 0.90 [0.80, 0.95] / 0.20 [0.12, 0.32] | +0.70" in cloning and "holds" in cloning
    kept = json.loads((folder / "results/tiny/methods.json").read_text())
    assert set(kept["arms"]) == {"two_stage", "bc"} and np.isclose(kept["arms"]["bc"]["success"], 0.2)
    assert len(kept["arms"]["two_stage"]["seeds"]) == 4
    assert (folder / "results/tiny/methods.png").exists()
    result(Cell(methods["bc"], "tiny", 3), 4)
    result(Cell(methods["bc"], "tiny", 5), 4)  # behind a gap
    assert any("| 4 | 0.68 [" in row for row in ablate.summarise("methods", "tiny", 3))


def test_a_policy_of_another_protocol_is_not_taken(folder, monkeypatch):
    """Catches numbers of one protocol made with a policy that another one trained."""
    before = Cell(Arm("two_stage"), "tiny", 0).run
    shorter = dataclasses.replace(PROTOCOLS["tiny"], steps=9)
    monkeypatch.setitem(PROTOCOLS, "tiny", shorter)
    assert Cell(Arm("two_stage"), "tiny", 0).run != before
    monkeypatch.undo()
    monkeypatch.setitem(ablate.RECIPES, "tiny", dataclasses.replace(ablate.RECIPES["tiny"], lr=1.0))
    assert Cell(Arm("two_stage"), "tiny", 0).run != before


def test_an_oracle_is_drawn_with_its_dreams(folder):
    """Catches the dream errors left out of the summary, and a plot that fails where an arm has none."""
    arms = {arm.label: arm for arm in ABLATIONS["oracle"](PROTOCOLS["tiny"])}
    errors = {"T": [i / 20 for i in range(20)]}
    for label in ("dream of one pass", "expert's film"):
        result(Cell(arms[label], "tiny", 0), 12, dream_error=errors, first_dream_error=errors)
    rows = ablate.summarise("oracle", "tiny", 1)
    assert "P(success dreamt better) 1.00 | [1.00, 1.00]" in rows[3] and "not run" in rows[4]
    kept = json.loads((folder / "results/tiny/oracle.json").read_text())
    assert kept["arms"]["expert's film"]["dream_error"] == 0.475
    assert (folder / "results/tiny/oracle.png").stat().st_size > 5000


def test_the_command_plans_and_refuses(folder, monkeypatch, capsys):
    """Catches a plan that lacks a cell, and a traceback for a name that does not exist."""
    monkeypatch.setattr("sys.argv", "ablate.py --dry-run --only methods,shifts --seeds 2 --preset base".split())
    ablate.main()
    lines = capsys.readouterr().out.splitlines()
    # Of five methods, three more that differ from these and one that was recoloured; a policy's cells share a line.
    assert len(lines) == 2 * 9
    named = [line.split("--cells ")[1].split() for line in lines]
    assert sum(map(len, named)) == 2 * (8 + 2 * 4 + 5)
    monkeypatch.setattr("sys.argv", [*lines[0].split()[1:], "--dry-run"])
    ablate.main()
    assert capsys.readouterr().out.splitlines() == lines[:1]
    for words, mention in ((("--only", "methods,luck"), "luck"), (("--cells", "plain_seed9"), "plain_seed9")):
        status, _, err = command("ablate.py", *words)
        assert status == 2 and err.count("\n") == 1 and mention in err
