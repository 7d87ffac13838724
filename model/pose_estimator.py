"""The pose estimator: four frames of every camera -> where the hand is, how it is turned, how far it is open.

It learns from the robot's own random motion (play), where the poses are known. Then it labels video of a task without
actions. BCO (Torabi et al. 2018, arXiv 1805.01954) does so with commands; a pose, unlike these, can be seen.
"""

import torch
import torch.nn.functional as F
from torch import nn

from util.files import InputError, brief, load_tensors, save_tensors

FORMAT = "pose-estimator-2"
OFFSETS = (-1, 1, 2)  # frames beside the present one: whether the fingers begin to move is seen in what follows
DECIMETRE, WIDEST = 0.1, 0.08  # metres: the unit of positions, and the opening of the fingers that counts as 1
WEIGHTS = (1.0,) * 3 + (2.0,) * 6 + (4.0,)  # of position, rotation and opening in the loss


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm around an identity, (N, C, h, w) -> the same."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


class ViewEncoder(nn.Module):
    """What one camera shows of the hand: frames (B, 4, 3, H, W) -> numbers (B, `outputs`).

    Keypoints are the expected coordinates of heatmaps (spatial softmax, Levine et al., arXiv 1504.00702).
    """

    def __init__(self, width, points):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(12 * 16, width, 1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()
        )  # fmt: skip
        self.shrink = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(ResidualBlock(width), ResidualBlock(width), nn.SiLU())
        self.fine_points, self.coarse_points = nn.Conv2d(width, points, 1), nn.Conv2d(width, points, 1)
        self.read = nn.Conv2d(width, 4, 1)  # what is read at each coarse keypoint
        self.pool = nn.Conv2d(width, 16, 1)
        self.outputs = 2 * points + 2 * points + 4 * points + 16 * 9

    def forward(self, frames):
        x = F.pixel_unshuffle(frames.flatten(1, 2), 4)  # (B, 192, h, w)
        fine = self.stem(x.contiguous(memory_format=torch.channels_last))
        coarse = self.blocks(self.shrink(fine))  # (B, C, h/2, w/2)
        at_fine, _ = keypoints(self.fine_points(fine), fine)
        at_coarse, values = keypoints(self.coarse_points(coarse), self.read(coarse))
        parts = (at_fine, at_coarse, values, F.adaptive_avg_pool2d(self.pool(coarse), 3).float())
        return torch.cat([part.flatten(1) for part in parts], dim=1)


def keypoints(heatmaps, values):
    """Where each heatmap (B, P, h, w) is, (B, P, 2) in [-1, 1], and the mean of values (B, C, h, w) there (B, P, C)."""
    h, w = heatmaps.shape[-2:]
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, device=heatmaps.device) for n in (h, w)), indexing="ij")
    with torch.autocast(heatmaps.device.type, enabled=False):  # bfloat16 has eight bits: too few for a coordinate
        heat = heatmaps.float().flatten(2).softmax(dim=2)
        return heat @ torch.stack([x.flatten(), y.flatten()], dim=1), heat @ values.float().flatten(2).transpose(1, 2)


class PoseEstimator(nn.Module):
    """F(current, others) -> poses (B, 10): position in metres (3), first two columns of the rotation (6), opening (1).

    cameras: their names, V; center (3,): the middle of the positions to expect, metres; image_size H = W, a multiple of
    4; width: channels; points: keypoints of each view at each of two resolutions; hidden: width of the MLP.
    """

    def __init__(self, *, cameras, image_size, center, width=64, points=16, hidden=256):
        super().__init__()
        if image_size % 4:
            raise InputError(f"pictures of {image_size} pixels: a pose estimator needs a multiple of 4")
        self.config = dict(cameras=list(cameras), image_size=image_size, width=width, points=points, hidden=hidden)
        self.register_buffer("center", torch.as_tensor(center, dtype=torch.float32))
        self.views = nn.ModuleList(ViewEncoder(width, points) for _ in cameras)
        inputs = sum(view.outputs for view in self.views)
        self.hidden = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)])
        self.out = nn.Linear(hidden, 10)
        self.to(memory_format=torch.channels_last)

    def forward(self, current, others):
        """current (B, V, 3, H, W) and others (B, 3, V, 3, H, W), the frames at OFFSETS, both uint8."""
        return self.read(*differences(current, others))

    def read(self, current, motion):
        """The same of what `differences` returns."""
        frames = torch.cat([current[:, None], motion], dim=1)  # (B, 4, V, 3, H, W)
        x = torch.cat([view(frames[:, :, v]) for v, view in enumerate(self.views)], dim=1)
        with torch.autocast(x.device.type, enabled=False):  # see keypoints
            for layer in self.hidden:
                x = F.silu(layer(x))
            position, rotation, opening = self.out(x).split((3, 6, 1), dim=1)
        return torch.cat([self.center + DECIMETRE * position, rotation, WIDEST * opening], dim=1)

    FILE = "pose_estimator.pt"  # in a run folder

    def save(self, path):
        """Write config and weights to `path`."""
        save_tensors({"format": FORMAT, "config": self.config, "weights": self.state_dict()}, path)

    @staticmethod
    def load(path, device="cpu"):
        """An estimator from `path`, ready to use. InputError for anything that is not one."""
        found = load_tensors(path, {"format": str, "config": dict, "weights": dict}, device)
        if found["format"] != FORMAT:
            raise InputError(f"{path}: not a pose estimator of this version; train.py --play makes one")
        try:
            estimator = PoseEstimator(**found["config"], center=[0.0] * 3)
            estimator.load_state_dict(found["weights"])
        except (TypeError, RuntimeError) as error:
            raise InputError(f"{path}: not a pose estimator ({brief(error)}); train.py --play makes one") from None
        return estimator.to(device).eval()

    def loss(self, batch, rng):
        """Smooth L1 between the estimated and the true poses of a Batch: its `future` are the frames at OFFSETS, its
        `actions` (B, 1, 10) the poses. The pictures vary: brightness of each colour, and a random rectangle.
        """
        current, motion = varied_differences(batch.current, batch.future, rng)
        unit = torch.tensor([DECIMETRE] * 3 + [1.0] * 6 + [WIDEST], device=current.device)
        weight = torch.tensor(WEIGHTS, device=current.device) / unit
        error = (self.read(current, motion) - batch.actions[:, 0]) * weight
        return F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.05)


def differences(current, others):
    """What the network sees of uint8 frames: the current ones in [-0.5, 0.5], and how the others differ from them,
    about as large. Under autocast they are bfloat16, which is exact for whole numbers up to 256.
    """
    kind = current.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    current = current.to(dtype)
    return current / 255 - 0.5, (others.to(dtype) - current[:, None]).mul_(3 / 255)


def varied_differences(current, others, rng):
    """The same of frames that vary: other gains and shifts of each colour, one for all frames of a window; in half of
    the windows one view has a random rectangle of one colour, the same in all frames.
    """
    (B, V, _, H, W), (current, motion) = current.shape, differences(current, others)
    gain, shift = torch.randn(2, B, 1, 3, 1, 1, generator=rng, device=rng.device).to(current.dtype)
    corner, size, which = torch.rand(3, B, 2, generator=rng, device=rng.device)
    color = torch.rand(B, 3, 1, 1, generator=rng, device=rng.device).to(current.dtype) - 0.5
    current.mul_(1 + 0.1 * gain).add_(0.05 * (gain + shift))  # a gain acts on [0, 1], not on [-0.5, 0.5]
    motion.mul_(1 + 0.1 * gain[:, None])
    for b in range(B):
        if which[b, 0] < 0.5:
            top, left = (int(c * n) for c, n in zip(corner[b], (H, W), strict=True))
            high, wide = (int((0.1 + 0.3 * s) * n) for s, n in zip(size[b], (H, W), strict=True))
            view = int(which[b, 1] * V)
            current[b, view, :, top : top + high, left : left + wide] = color[b]
            motion[b, :, view, :, top : top + high, left : left + wide] = 0
    return current, motion
