"""Hand poses as actions: 3 numbers of position, 6 of rotation, 1 of the gripper.

A rotation is written as the first two columns of its matrix (Zhou et al. 2019, arXiv 1812.07035): unlike a quaternion
or an angle these numbers never jump, so a network can learn them. Any six numbers that it predicts make a rotation.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.spatial.transform import Rotation

POSE_SIZE = 10  # numbers in a pose action: position 3, rotation 6, gripper 1
MOVED = 0.01  # metres in five steps: fingers that change their opening by more are opening or closing
RELEASE = 5  # control steps
CLOSED = 0.01  # metres of opening below which a clip begins with closed fingers
MAX_MOVE, MAX_TURN = 0.05, 0.5  # metres and radians that a command of 1 asks for in one control step
GAIN = 1.6  # of the servo that follows a pose; above 1, since the arm covers only part of a command in one step


def matrix_to_sixd(matrix):
    """The first two columns (..., 6), one after the other, of rotation matrices (..., 3, 3)."""
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def sixd_to_matrix(sixd):
    """Rotation matrices (..., 3, 3) of any six numbers (..., 6), by Gram-Schmidt; columns of length zero stay zero."""
    x = _unit(sixd[..., :3])
    y = sixd[..., 3:]
    y = _unit(y - (x * y).sum(axis=-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def pose_actions(poses, gripper, lead):
    """Pose actions (N, 10) of a demonstration with `poses` (N, 10): step t asks for the pose that was achieved at t +
    lead, at the end for the last one, and for the gripper's command (N,) of t itself: fingers begin to move at once.
    """
    later = np.minimum(np.arange(len(poses)) + lead, len(poses) - 1)
    return np.concatenate([poses[later, :9], np.reshape(gripper, (-1, 1))], axis=1).astype(np.float32)


def aimed_actions(poses, commands):
    """Pose actions (N, 10), the places that commands (N, 7) aim at: following them, the servo gives these commands."""
    turn = Rotation.from_rotvec(commands[:, 3:6] * MAX_TURN / GAIN).as_matrix()
    aims = matrix_to_sixd(turn @ sixd_to_matrix(poses[:, 3:9]))
    moved = poses[:, :3] + commands[:, :3] * MAX_MOVE / GAIN
    return np.concatenate([moved, aims, commands[:, 6:]], axis=1).astype(np.float32)


def smooth(poses):
    """Estimated poses (N, 10) of successive frames without their jitter: a median and a Gaussian filter over five."""
    poses = median_filter(poses, size=(5, 1), mode="nearest")
    poses = gaussian_filter1d(poses, sigma=1.0, axis=0, radius=2, mode="nearest")
    poses[:, 3:9] = matrix_to_sixd(sixd_to_matrix(poses[:, 3:9]))
    return poses


def gripper_commands(opening):
    """Gripper commands (N,), -1 open and 1 closed, from the opening of the fingers (N,), metres: closed from when they
    begin to close until they begin to open, RELEASE steps earlier: fingers that hold something open late.
    """
    steps = np.arange(len(opening))
    last = len(opening) - 1
    change = opening[np.minimum(steps + 4, last)] - opening[np.maximum(steps - 1, 0)]
    closed = np.empty(len(opening), bool)
    now = opening[0] < CLOSED
    for t, moved in enumerate(change):
        now = moved < -MOVED or (now and moved <= MOVED)
        closed[t] = now
    for t in np.flatnonzero(closed[:-1] & ~closed[1:]):
        closed[max(t + 1 - RELEASE, 0) : t + 1] = False
    return np.where(closed, 1.0, -1.0)


def pose_errors(found, true):
    """Errors of poses (N, 10): metres of the position, degrees of the rotation, each (N,)."""
    turn = np.swapaxes(sixd_to_matrix(true[:, 3:9]), 1, 2) @ sixd_to_matrix(found[:, 3:9])
    cosine = (np.trace(turn, axis1=1, axis2=2) - 1) / 2
    return np.linalg.norm(found[:, :3] - true[:, :3], axis=1), np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def project(points, camera, size):
    """Pixels (N, 2), x to the right and y down, of points (N, 3) in the world, in a picture of size x size. camera:
    its position (3,), its rotation (3, 3), which looks along -z with y up, and its vertical view in degrees.
    """
    position, rotation, fovy = camera
    x, y, z = ((points - position) @ rotation).T
    focal = size / 2 / np.tan(np.radians(fovy) / 2)
    return np.stack([size / 2 - focal * x / z, size / 2 + focal * y / z], axis=1)


def _unit(vector):
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)
