"""Hand poses as actions: 3 numbers of position, 6 of rotation, 1 of the gripper. numpy only.

A rotation is written as the first two columns of its matrix (Zhou et al. 2019, arXiv 1812.07035): unlike a quaternion
or an angle these numbers never jump, so a network can learn them. Any six numbers that it predicts make a rotation.
"""

import numpy as np

POSE_SIZE = 10  # numbers in a pose action: position 3, rotation 6, gripper 1


def quat_to_matrix(quat):
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) in the order x, y, z, w, of any length but zero."""
    x, y, z, w = np.moveaxis(quat / np.linalg.norm(quat, axis=-1, keepdims=True), -1, 0)
    columns = [
        [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
        [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
        [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(column, axis=-1) for column in columns], axis=-1)


def matrix_to_sixd(matrix):
    """The first two columns (..., 6), one after the other, of rotation matrices (..., 3, 3)."""
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def sixd_to_matrix(sixd):
    """Rotation matrices (..., 3, 3) of any six numbers (..., 6), made orthonormal by Gram-Schmidt, first column first.

    Columns of length zero stay zero: that is no rotation, but finite.
    """
    x = _unit(sixd[..., :3])
    y = sixd[..., 3:]
    y = _unit(y - (x * y).sum(axis=-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def actions_from_poses(pos, quat, gripper_command, lead):
    """Pose actions (N, 10) of a demonstration: step t asks for the pose that was achieved at t + lead.

    pos: (N, 3) metres in the world; quat: (N, 4) x, y, z, w; gripper_command: (N,), taken at t itself, because the
    fingers begin to move at once; lead: control steps. Past the end the last pose is held.
    """
    later = np.minimum(np.arange(len(pos)) + lead, len(pos) - 1)
    rotation = matrix_to_sixd(quat_to_matrix(quat[later]))
    return np.concatenate([pos[later], rotation, np.reshape(gripper_command, (-1, 1))], axis=1)


def _unit(vector):
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)
