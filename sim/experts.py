"""Scripted experts: verbs (reach, grasp, drive, ...) of which each task's script is made.

A verb is a generator that reads the live state and yields one (7,) action, six operational-space deltas and the
gripper; the caller steps the environment before the next.
"""

import numpy as np

from data.poses import GAIN, MAX_MOVE, MAX_TURN
from sim.task import GRIP_SITE as HAND
from sim.task import Pose, rotation

OPEN, CLOSED = -1.0, 1.0  # gripper commands
FAST, CARRYING, PUSHING, PULLING = 0.8, 0.6, 0.5, 0.35  # caps on the action while moving freely, holding, in contact
LOST = 0.06  # metres from its site beyond which a hand no longer holds or pushes it
NEAR, ALIGNED, SETTLE = 0.009, 0.1, 2  # metres and radians within which a pose is reached, and steps in a row
VIA, VIA_ALIGNED = 0.03, 0.3  # metres and radians within which a pose on the way is passed
PRESS_STEPS, RELEASE_STEPS = 12, 8  # steps that a drive goes on at its target, and that the fingers need to open
PER_RADIAN = 0.1  # metres per radian, to add both errors of a pose
STILL = 0.0004  # metres per step: slower than this the fingers have stopped
STAND_OFF, HELD = 0.07, 0.15  # metres before a site from where a hand moves straight in; beyond which a tool is lost
LINGER = 20  # steps of holding still at the end, so that the goal can hold
# Play covers all that the hand can do: an estimator does not recognise poses that it has never seen.
PLAY_LOW, PLAY_HIGH = np.array([-0.35, -0.5, 0.83]), np.array([0.2, 0.5, 1.25])  # metres: bounds of play
PLAY_TILT = 1.2  # radians that these poses lean, about the world's x and about its y
PLAY_SPIN = np.array([-3.2, 2.1])  # radians that it turns about its own axis: nearly all that the last joint can do
PLAY_TWIST = 2.0  # radians of it at a time: below pi, so that the shorter way round does not pass the joint's stop
STUCK, STALLED = 15, 80  # steps without progress, and steps in all, after which a verb gives up: a script starts over


def expert(env):
    """The scripted solution of the environment's task: (7,) actions; the caller steps each."""
    gripper = OPEN
    for action in env.task.recipe(env.view):
        gripper = action[6]
        yield action
    yield from hold_still(gripper, LINGER)


def play(env, rng):
    """Random motion towards endless random poses, half of them near things, few reached; the fingers open and close."""
    s, start, spin = env.view, env.view.hand.rot, 0.0
    while True:
        pos = rng.uniform(PLAY_LOW, PLAY_HIGH)
        if rng.random() < 0.5:
            pos = env.things()[rng.integers(len(env.things()))] + rng.normal(0, 0.12, 3)
        spin = rng.uniform(*np.clip([spin - PLAY_TWIST, spin + PLAY_TWIST], *PLAY_SPIN))
        rot = rotation([*rng.uniform(-PLAY_TILT, PLAY_TILT, 2), 0]) @ start @ rotation([0, 0, spin])
        gripper, speed = rng.choice([OPEN, CLOSED]), rng.uniform(PULLING, 1)
        for _ in range(rng.integers(8, 20)):
            yield towards(s, Pose(np.clip(pos, PLAY_LOW, PLAY_HIGH), rot), gripper, speed)


def run_expert(env, seed, shift="none", noise=0.0, actions=None):
    """One episode of the expert, its arm disturbed by `noise` (std), or of `actions` -> (success, control steps)."""
    env.reset(seed, shift)
    rng = np.random.default_rng(seed)
    for action in actions or expert(env):
        env.step(action + np.append(noise * rng.standard_normal(6), 0.0))
        if env.ended():
            break
    return env.success(), env.timestep


def _rotation_vector(rot):
    """Axis times angle (3,) of a rotation matrix (3, 3), for angles well below pi."""
    twist = np.array([rot[2, 1] - rot[1, 2], rot[0, 2] - rot[2, 0], rot[1, 0] - rot[0, 1]]) / 2
    sine = np.linalg.norm(twist)
    angle = np.arctan2(sine, (np.trace(rot) - 1) / 2)
    return twist if sine < 1e-9 else twist * (angle / sine)


def _cap(vector, most):
    return vector * min(1.0, most / max(np.linalg.norm(vector), 1e-9))


def _errors(s, target, tool=HAND):
    """The error of a tool against a pose: metres (3,) and a rotation vector (3,), both in the world."""
    now = s.site(tool)
    return target.pos - now.pos, _rotation_vector(target.rot @ now.rot.T)


def towards(s, target, gripper, speed, tool=HAND):
    """The action that moves a tool towards a pose, no faster than `speed`."""
    move, turn = _errors(s, target, tool)
    turn = _cap(GAIN * turn / MAX_TURN, speed)
    if tool != HAND:  # turning the hand about itself swings the tool: compensate
        move = move - np.cross(turn * MAX_TURN, s.site(tool).pos - s.hand.pos)
    return np.concatenate([_cap(GAIN * move / MAX_MOVE, speed), turn, [gripper]])


def hold_still(gripper, steps):
    """Ask for no motion of the arm for some steps."""
    for _ in range(steps):
        yield np.array([0.0, 0, 0, 0, 0, 0, gripper])


def stay(s, gripper, steps):
    """Keep the hand's pose for some steps; unlike hold_still, it returns after a disturbance."""
    pose = s.hand
    for _ in range(steps):
        yield towards(s, pose, gripper, FAST)


def reach(s, site, gripper, tool=HAND, speed=FAST, like="", short=0.0, via=0.0):
    """Bring the hand, or a site of what it holds (`tool`), to a site's pose, or `short` metres short of it, until it is
    there, makes no progress, or has lost the tool. like: a site whose rotation the hand takes, however the tool lies in
    it; via: pass the pose within this many metres, without stopping.
    """
    near, aligned, settle, patience = (via, VIA_ALIGNED, 1, STALLED) if via else (NEAR, ALIGNED, SETTLE, STUCK)
    settled, stuck, nearest = 0, 0, np.inf
    for _ in range(STALLED):
        pose, moved = s.site(site), HAND if like else tool
        rot = s.site(like).rot if like else pose.rot
        pos = pose.pos - short * rot[:, 2]
        target = Pose(pos + s.hand.pos - s.site(tool).pos if like else pos, rot)
        move, turn = (np.linalg.norm(error) for error in _errors(s, target, moved))
        distance = move + turn * PER_RADIAN
        stuck, nearest = (0, distance) if distance < nearest - STILL else (stuck + 1, nearest)
        settled = settled + 1 if move < near and turn < aligned else 0
        dropped = np.linalg.norm(s.site(tool).pos - s.hand.pos) > HELD
        if dropped or stuck > patience or settled >= settle:
            return
        yield towards(s, target, gripper, speed, moved)


def approach(s, site, gripper, tool=HAND, speed=FAST, like="", via=VIA):
    """Reach a site's pose from a point in front of it, along the direction of the site (or `like`)."""
    yield from reach(s, site, gripper, tool, speed, like, short=STAND_OFF, via=via)
    yield from reach(s, site, gripper, tool, speed, like)


def grasp(s):
    """Close the fingers until they stand still, in 5 to 20 steps."""
    for step in range(20):
        gap = s.gripper
        yield from hold_still(CLOSED, 1)
        if step >= 4 and abs(s.gripper - gap) < STILL:
            return


def drive(s, site, joint, to, speed):
    """Push, pull or twist what carries a site until its joint has passed `to`, a fraction of its range, and on: the
    closed hand aims a stride ahead of the site along its joint. It gives up when it has lost the site.
    """
    # It presses on, since pixels do not show `to` exactly, and a policy that lets go there may stop short of it.
    way, past = np.sign(to - s.joint(joint)), 0
    for _ in range(STALLED):
        past += way * (to - s.joint(joint)) <= 0
        if past > PRESS_STEPS or np.linalg.norm(_errors(s, s.site(site))[0]) > LOST:
            return
        yield towards(s, s.ahead(site, joint, way), CLOSED, speed)


def _shift(s, by, gripper, speed, near):
    """Move the hand by some metres (3,) in the world, without turning it, until it is within `near` metres."""
    target = Pose(s.hand.pos + by, s.hand.rot)
    for _ in range(STALLED):
        if np.linalg.norm(_errors(s, target)[0]) < near:
            return
        yield towards(s, target, gripper, speed)


def retreat(s, gripper=OPEN):
    """Draw the hand 10 cm back, against its pointing direction: more than the goals require."""
    yield from _shift(s, -0.1 * s.hand.rot[:, 2], gripper, FAST, NEAR)


def lift(s, by=STAND_OFF, speed=FAST):
    """Move the hand straight up by some metres."""
    yield from _shift(s, np.array([0, 0, by]), CLOSED, speed, VIA)


def push(s, site, joint, to, margin=0.0, leave=None):
    """Bring the closed fingers to a site, drive its joint past `to` by `margin`, then `leave`; repeat if it failed."""
    way = np.sign(to - s.joint(joint))
    while way * (to - s.joint(joint)) > 0:
        yield from approach(s, site, gripper=CLOSED)
        yield from drive(s, site, joint, to=to + way * margin, speed=PUSHING)
        yield from leave(s) if leave else ()


def pull(s, site, joint, to, margin=0.0):
    """Grasp at a site, drive its joint past `to` by `margin`, let go and draw back; repeat if the hand slipped."""
    way = np.sign(to - s.joint(joint))
    while way * (to - s.joint(joint)) > 0:
        yield from approach(s, site, gripper=OPEN)
        yield from grasp(s)
        yield from drive(s, site, joint, to=to + way * margin, speed=PULLING)
        yield from hold_still(OPEN, RELEASE_STEPS)
        yield from retreat(s)


def carry(s, thing, place, region):
    """Grasp an object at its `<thing>_grip`, the hand turned as at a place within a region, bring its underside,
    `<thing>_base`, there, and let go; repeat if it fell on the way.
    """
    while not (s.inside(region, thing) and s.upright(thing)):
        # closer than VIA: the open hand must not touch what it is about to grasp
        yield from approach(s, f"{thing}_grip", gripper=OPEN, like=place, via=0.015)
        yield from grasp(s)
        yield from retreat(s, gripper=CLOSED)
        yield from approach(s, place, gripper=CLOSED, tool=f"{thing}_base", speed=CARRYING, like=place)
        yield from hold_still(OPEN, RELEASE_STEPS)
        yield from retreat(s)
