"""Hand poses as actions: the conversions, and the simulator that follows a pose."""

from unittest import mock

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data.poses import (
    POSE_SIZE,
    RELEASE,
    aimed_actions,
    gripper_commands,
    matrix_to_sixd,
    pose_actions,
    pose_errors,
    sixd_to_matrix,
    smooth,
)  # fmt: skip
from sim.tasks import TASKS
from util.files import InputError

env_module = pytest.importorskip("sim.env", reason="no simulator", exc_type=InputError)
from sim.experts import MAX_MOVE, MAX_TURN  # noqa: E402
from sim.record import record  # noqa: E402

LEAD = 2


@pytest.fixture(scope="module")
def env():
    env = env_module.TaskEnv("CloseDrawer", size=16)
    yield env
    env.close()


def poses_of(pos, quat):
    """Poses (N, 10) with closed fingers."""
    return np.concatenate([pos, matrix_to_sixd(Rotation.from_quat(quat).as_matrix()), np.zeros((len(pos), 1))], axis=1)


def rotations(*shape):
    """Quaternions (..., 4) and, by scipy, their matrices (..., 3, 3); half turns and no turn among them."""
    quat = Rotation.random(int(np.prod(shape)), random_state=0).as_quat()
    quat[:4] = np.eye(4)
    return quat.reshape(*shape, 4), Rotation.from_quat(quat).as_matrix().reshape(*shape, 3, 3)


def test_six_numbers_and_back():
    """Catches rows for columns, or columns in another order than the two that are written."""
    _, matrix = rotations(5, 7)
    sixd = matrix_to_sixd(matrix)
    assert np.array_equal(sixd[2, 3], np.concatenate([matrix[2, 3, :, 0], matrix[2, 3, :, 1]]))
    assert np.allclose(sixd_to_matrix(sixd), matrix, atol=1e-12)


def test_any_six_numbers_make_a_rotation():
    """Catches what a network predicts being used as it is: columns of any length and angle, or without a direction."""
    matrix = sixd_to_matrix(np.random.default_rng(0).normal(size=(50, 6)))
    assert np.allclose(matrix @ matrix.swapaxes(-1, -2), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(matrix), 1)
    assert np.isfinite(sixd_to_matrix(np.zeros(6))).all()


def test_a_step_asks_for_the_pose_of_later_and_the_gripper_of_now():
    """Catches a gripper that leads too, a lead of one too many, or an end that wraps around."""
    quat, matrix = rotations(9)
    pos, gripper = np.arange(27.0).reshape(9, 3), np.arange(9) % 2 * 2 - 1.0
    actions = pose_actions(poses_of(pos, quat), gripper, LEAD)
    assert actions.shape == (9, POSE_SIZE)
    assert np.array_equal(actions[3, :3], pos[5]) and np.allclose(sixd_to_matrix(actions[3, 3:9]), matrix[5])
    assert np.array_equal(actions[-LEAD - 1 :, :3], pos[[8, 8, 8]])
    assert np.array_equal(actions[:, 9], gripper)


def test_the_gripper_is_closed_from_when_it_begins_to_close_until_it_opens():
    """Catches fingers that stand still around an object, far from closed, being taken for open; a command that comes
    after what it does; a release as late as it is seen; and a clip that begins with closed fingers.
    """
    opening = np.interp(np.arange(80), [20, 28, 50, 58], [0.08, 0.04, 0.04, 0.08])
    closed = np.flatnonzero(gripper_commands(opening) > 0)
    assert 17 <= closed[0] <= 20 and np.array_equal(closed, np.arange(closed[0], closed[-1] + 1))
    seen = 48  # from here the fingers are more than 1 cm further open four steps later; at 50 they begin to move
    assert closed[-1] == seen - RELEASE - 1
    assert (gripper_commands(np.zeros(9)) == 1).all() and (gripper_commands(np.full(9, 0.06)) == -1).all()


def test_smoothing_takes_out_a_spike_and_keeps_rotations():
    """Catches rotations that are no longer any after a mean, a wild frame that pulls its neighbours along, a slow
    motion that is bent or shifted in time, and an input that is changed.
    """
    turns = Rotation.from_rotvec(np.linspace(0, 1, 30)[:, None] * (0, 0, 1)).as_quat()
    poses = poses_of(np.linspace(0, 0.3, 30)[:, None] * (1, 2, 3), turns)
    wild = poses.copy()
    wild[12] += np.random.default_rng(0).normal(size=POSE_SIZE)
    given = wild.copy()
    calm = smooth(wild)
    assert np.array_equal(wild, given) and np.abs(calm - poses)[3:-3].max() < 0.05
    assert np.allclose(calm[:, 3:9], matrix_to_sixd(sixd_to_matrix(calm[:, 3:9])), atol=1e-12)
    assert np.allclose(smooth(poses)[4:-4, :3], poses[4:-4, :3], atol=1e-9)


def test_errors_are_metres_and_degrees():
    """Catches an angle in radians, of one axis alone, or beyond arccos where two rotations are the same."""
    quat, _ = rotations(60)
    rng = np.random.default_rng(0)
    found, true = poses_of(rng.normal(size=(30, 3)), quat[:30]), poses_of(rng.normal(size=(30, 3)), quat[30:])
    turn = Rotation.from_quat(quat[:30]) * Rotation.from_quat(quat[30:]).inv()
    metres, degrees = pose_errors(found, true)
    assert np.allclose(degrees, np.degrees(turn.magnitude()), atol=1e-4)
    assert np.allclose(metres, np.linalg.norm(found[:, :3] - true[:, :3], axis=1))
    assert np.array_equal(pose_errors(true, true)[0], np.zeros(30)) and pose_errors(true, true)[1].max() < 1e-4


def follow(env, seed, aimed=False):
    """Whether the poses of the demonstration of a seed, or what its commands aim at, lead to success in its scene."""
    _, demo = record(env, seed)
    env.reset(seed)
    poses = poses_of(*(demo[f"obs/robot0_eef_{part}"] for part in ("pos", "quat")))
    achieved, aims = pose_actions(poses, demo["actions"][:, 6], LEAD), aimed_actions(poses, demo["actions"])
    for action in aims if aimed else achieved:
        env.step(action)
        if env.success():
            return True
    return False


def test_poses_replay(env):
    """Catches a pose in another frame than that of the files, a hand that lags behind it, and aims of another scale."""
    assert all(follow(env, seed, aimed) for seed in range(3) for aimed in (False, True))
    env.reset(0)
    proprio, command = env.proprio(), np.array([[0.3, -0.2, 0.4, 0.2, 0.3, -0.1, 1.0]])
    now = poses_of(proprio["robot0_eef_pos"][None], proprio["robot0_eef_quat"][None])
    with mock.patch.object(env_module.ManipulationEnv, "step") as step:  # of robosuite, which takes commands
        env.step(aimed_actions(now, command)[0])
    assert np.allclose(step.call_args.args[0], command[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_poses_replay_in_every_task(task):
    """Catches a task that its own demonstrations' poses do not solve."""
    env = env_module.TaskEnv(task, size=16)
    seeds = [seed for seed in range(12) if record(env, seed)][:10]
    assert sum(follow(env, seed) for seed in seeds) >= 8
    env.close()


def test_the_mode_is_chosen_by_the_step(env):
    """Catches an environment in which deltas do something else after it has followed a pose."""
    deltas = np.random.default_rng(0).uniform(-1.5, 1.5, size=(20, 7))

    def states():
        env.reset(3)
        for action in deltas:
            env.step(action)
            yield env.state()

    before = list(states())
    _, demo = record(env, 4)
    follow(env, 4)
    assert all(np.array_equal(a, b) for a, b in zip(before, states(), strict=True))


def test_a_pose_far_away_is_approached_no_faster_than_deltas_allow(env):
    """Catches a hand that is flung at a wrong prediction, or one that passes a pose and never stays there."""
    env.reset(0)
    start = env.proprio()
    turned = Rotation.from_euler("z", 2.0) * Rotation.from_quat(start["robot0_eef_quat"])
    pos = start["robot0_eef_pos"] + (0.1, 0.25, -0.05)
    action = pose_actions(poses_of(pos[None], turned.as_quat()[None]), [1.0], LEAD)[0]
    for _ in range(40):
        before = env.proprio()
        env.step(action)
        now = env.proprio()
        assert np.linalg.norm(now["robot0_eef_pos"] - before["robot0_eef_pos"]) < MAX_MOVE
        turn = Rotation.from_quat(now["robot0_eef_quat"]) * Rotation.from_quat(before["robot0_eef_quat"]).inv()
        assert turn.magnitude() < MAX_TURN
    assert np.linalg.norm(now["robot0_eef_pos"] - pos) < 0.005
    assert (Rotation.from_quat(now["robot0_eef_quat"]) * turned.inv()).magnitude() < 0.05
    assert env.view.gripper < 0.01


@pytest.mark.parametrize("action", [np.zeros(6), np.zeros(9), np.full(10, np.nan), np.zeros((1, 10)), 3.1 * np.ones(10),
                                    np.eye(10)[0]])  # fmt: skip
def test_what_is_no_action_is_refused(env, action):
    """Catches a NaN, another size, millimetres or a rotation of zeros that reach the controller."""
    env.reset(0)
    with pytest.raises(ValueError, match="an action is 7 or 10 finite numbers|no place of a hand within 3.0 m"):
        env.step(action)
