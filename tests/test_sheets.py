"""Contact sheets: the frames in them are those that a policy sees."""

import sys

import imageio.v2 as imageio
import numpy as np
import pytest

from sim import oracle
from sim.env import CAMERAS, TaskEnv
from sim.experts import expert
from sim.task import SHIFTS
from sim.tasks import __main__ as tasks
from sim.tasks import sheets
from util.cli import InputError, command

SIZE, SEED = 32, 3


def frame_at(path, row, column, left):
    """The frame in a row and column of a sheet's first block, as small as it was."""
    step = sheets.SHOWN + sheets.GAP
    y, x = 3 * sheets.LINE + row * step, left + column * step
    square, scale = imageio.imread(path)[y : y + sheets.SHOWN, x : x + sheets.SHOWN], sheets.SHOWN // SIZE
    small = square[::scale, ::scale]
    assert np.array_equal(small.repeat(scale, axis=0).repeat(scale, axis=1), square)
    return small.transpose(2, 0, 1)


@pytest.fixture(scope="module")
def env():
    made = TaskEnv("CloseDrawer", cameras=CAMERAS, size=SIZE)
    yield made
    made.close()


def test_a_sheet_of_tasks_shows_the_episode_that_succeeds(env, tmp_path, monkeypatch):
    """Catches frames that were resized, swapped or are of another moment, and an episode in which the expert fails."""
    calls = []

    def fails_at_first(env):
        calls.append(env)
        return expert(env) if len(calls) > 1 else iter(())

    monkeypatch.setattr(oracle, "expert", fails_at_first)
    path = tmp_path / "new" / "tasks.png"
    line = sheets.draw_sheet("tasks", ["CloseDrawer"], path, SIZE, SEED - 1)
    assert f"1 tasks, {sheets.MARGIN + 3 * 130}x{3 * sheets.LINE + 3 * 130} pixels" in line
    assert line.endswith(f"CloseDrawer at seed {SEED}, for its expert fails at {SEED - 1}")
    assert list(path.parent.iterdir()) == [path]
    env.reset(SEED)
    seen = [env.observe()]
    for action in expert(env):
        env.step(action)
        seen.append(env.observe())
        if env.success():
            break
    assert env.success()
    for column, moment in enumerate((0, len(seen) // 2, -1)):
        for row in range(len(CAMERAS)):
            assert np.array_equal(frame_at(path, row, column, sheets.MARGIN), seen[moment][row]), (row, column)


def test_a_sheet_of_shifts_shows_one_seed_under_each(env, tmp_path):
    """Catches a picture under the wrong shift's name."""
    path = tmp_path / "shifts.png"
    sheets.draw_sheet("shifts", ["CloseDrawer"], path, SIZE, SEED)
    for column, shift in enumerate(SHIFTS):
        env.reset(SEED, shift)
        assert np.array_equal(frame_at(path, 0, column, left=0), env.observe()[0]), shift


def test_an_expert_that_always_fails_is_named(env, monkeypatch):
    """Catches an endless search, or a sheet of failures."""
    monkeypatch.setattr(oracle, "expert", lambda env: iter(()))
    with pytest.raises(InputError, match="CloseDrawer.* seed from 3 to 12"):
        sheets.moments(env, SEED)


@pytest.mark.parametrize("words", (["--out", "sheet.gif"], ["--size", "40"], ["--tasks", "FlyDrone"]))
def test_mistakes_get_one_line(words, monkeypatch, capsys):
    """Catches a traceback for a wrong flag, and one noticed only after the drawing."""
    monkeypatch.setattr(sys, "argv", ["sim.tasks", "--sheet", "tasks", *words])
    with pytest.raises(SystemExit) as caught:
        command(tasks.main)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and words[0] in err and err.count("\n") == 1
