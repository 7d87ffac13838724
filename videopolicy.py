"""Video Policy: a robot policy decoded from a video generator (Liang et al. 2025, arXiv 2508.00795).

The method, in a dozen lines (B batch, T future frames, V cameras, H W pixels, K actions in a chunk, A action size, R
noisy chunks for each window, g rows and columns of what the head keeps of a feature map):

    y        = (future - current) / std                  what is going to change, (B, T, V, 3, H, W)
    x        = y + sigma * noise                         at the highest sigma without y, as when acting
    F, feats = unet(c_in * x, current, sigma, prompt)    model/unet.py; a gate takes some of `current` away: see denoise
    D        = c_skip * x + c_out * F                    what x believes y to be: the dream; model/diffusion.py
    video loss   = weight(sigma) * |D - y|^2             stage 1: learn to dream         train.py
    A_hat    = head(feats, noisy actions, their sigma)   model/action_head.py; the video's sigma it is not told
    action loss  = weight * |A_hat - actions|^2          stage 2: the unet frozen, learn to act
    acting: one pass of the unet on pure noise -> feats -> denoise the chunk -> execute half of it -> look again

One training window, for video_stride 4: a frame at every 4th control step, an action at every one (20 Hz).

    control step   0    1    2    3    4    5  ...   8  ...  28  ...  32
    frames         current             f1            f2      f7       f8
    actions        a0   a1   a2   a3   a4   a5 ...                a31

Read next: model/diffusion.py (the formulas), model/unet.py (the generator), model/action_head.py, then train.py.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import default_collate

from model.action_head import ActionHead, PairEncoder
from model.checkpoint import CheckpointError, brief, check_tensors, load_file, save_file
from model.diffusion import add_noise, append_dims, loss_weight, precondition, sample, schedule
from model.layers import ATTENTION_HEAD
from model.text import PromptEncoder, tokenize
from model.unet import VideoUNet
from util.files import InputError, check_fields

FORMAT = "video-policy-4"  # of policy.pt


class Target(NamedTuple):
    """What the video network is asked for."""

    relative: bool  # the data is the change from the current frame, not the frame
    parameterization: str  # of model/diffusion.py: what F is
    gated: bool = False  # a fourth channel says how much of the current frame to take away; with "clean" only


PREDICTIONS = {
    "gated": Target(True, "clean", gated=True),  # future = (1 - gate) * current + std * content
    "frame": Target(False, "clean"),  # future = std * content
    "velocity": Target(False, "velocity"),  # Differs: only this is the paper's, v-prediction of the frames
}
ACTION_PREDICTION = "clean"  # the same of the action head: F is the chunk itself
DECODERS = ("features", "pixels")  # what the action head reads


# The range of a Config's fields by type, of strings that of their length; and narrower ranges of some fields.
LIMITS = {int: (1, 8192), float: (-10, 1e6), bool: (0, 1), str: (1, 64)}
NARROW = {"video_stride": (int, 0, 128), "blocks": (int, 1, 16), "action_steps": (int, 1, 1000)}


@dataclass(frozen=True)
class Config:
    """Everything that shapes the networks; saved with the weights. No field is derived from another."""

    cameras: tuple = ("front",)  # Differs: the paper has three views
    image_size: int = 64  # pixels, a multiple of patch * 2^(levels - 1)
    video_frames: int = 8  # T, as in the paper
    video_stride: int = 4  # control steps between frames: 8 x 4 = 32 steps = 1.6 s, as in the paper
    action_horizon: int = 32  # K, as in the paper
    action_size: int = 7  # A: 3 position, 3 rotation, 1 gripper
    # The generator.
    patch: int = 4  # pixel-unshuffle: convolutions at full resolution would cost 16 times as much
    widths: tuple = (48, 64, 128)
    blocks: int = 1
    attention: tuple = (False, True, True)  # at 16x16 it would cost more than all convolutions together
    embed: int = 128
    prediction: str = "gated"
    # The prompt.
    prompt_words: int = 24
    prompt_width: int = 64
    prompt_dropout: float = 0.1  # per window, so that an unconditional one exists. Differs: per frame in the paper
    # The action head.
    decoder: str = "features"  # what it reads: the generator's "features", or the "pixels" of the dreamed frames
    pair_widths: tuple = (64, 96, 128)  # of the convolutions over pairs of frames, where pixels are read
    squeeze: int = 8  # channels kept of each map; 16 and a width of 512 decode no better and are 4 times as large
    grid: int = 4  # rows and columns kept of each map: where things are
    head_width: int = 256
    # From the thousands of numbers that the head reads it can tell every demo apart, and learn it by heart. Dropout of
    # 0.8 took the held-out error of 5 labelled demos (TurnOffSinkFaucet) from 0.066 to 0.055; of 180 it cost nothing.
    # Of seventeen tasks 0.5 won 101 of 170 scenes, and 0.8, with more demos, 87. Differs: the paper names none.
    head_dropout: float = 0.8
    # Noise. In units of the data's standard deviation; ln sigma ~ N(mean, std^2), cut off at sigma_max.
    video_sigma_mean: float = 1.0  # the paper's
    video_sigma_std: float = 1.6  # the paper's
    action_sigma_mean: float = 1.0
    action_sigma_std: float = 1.6
    sigma_min: float = 0.05
    sigma_max: float = 20.0
    # Whether the input at sigma_max is noise alone in training, as it is when acting. Policies of several tasks need
    # that; the demo's task alone dreams better with it and succeeds less often (docs/results.md).
    zero_terminal_snr: bool = True
    action_steps: int = 8  # denoising steps of the action chunk; each is one call of the small MLP

    def __post_init__(self):
        limits = {}
        for f in dataclasses.fields(self):  # a field is of the kind that its default is
            many = isinstance(f.default, tuple)
            kind = type(f.default[0] if many else f.default)
            limits[f.name] = ((kind,) if many else kind, *LIMITS[kind])
        try:
            check_fields(vars(self), limits | NARROW)
        except ValueError as error:
            raise InputError(f"config {error}") from None
        multiple = self.patch * 2 ** (len(self.widths) - 1)  # so that every level of the U-Net has whole pixels
        target = PREDICTIONS.get(self.prediction)
        checks = {
            "prediction": target is not None,
            "decoder": self.decoder in DECODERS,
            "attention": len(self.attention) == len(self.widths),
            "widths": all(w % ATTENTION_HEAD == 0 for w, u in zip(self.widths, self.attention, strict=False) if u),
            "prompt_width": self.prompt_width % ATTENTION_HEAD == 0,
            "cameras": len(set(self.cameras)) == len(self.cameras),
            "image_size": self.image_size % multiple == 0,
            "video_stride": self.video_stride > 0 or (self.video_frames == 1 and not (target and target.relative)),
            "head_dropout": 0 <= self.head_dropout < 1,
            "sigma_max": 0 < self.sigma_min < self.sigma_max,
        }
        for field, good in checks.items():
            if not good:
                hint = f" (a multiple of {multiple})" if field == "image_size" else ""
                raise InputError(f"config field {field}={getattr(self, field)!r} is out of range{hint}")

    @property
    def head_inputs(self):
        """How many numbers the action head reads: of each map, frame, view and cell of the grid, `squeeze`."""
        maps = 1 if self.decoder == "pixels" else len(self.widths)
        return maps * self.video_frames * len(self.cameras) * self.grid**2 * self.squeeze


PRESETS = {
    "tiny": dict(),
    "small": dict(  # squeeze 4: with it both checkpoints of the repository fit in 12 MB
        cameras=("front", "side", "wrist"), image_size=96, patch=6, video_frames=4, video_stride=8,
        widths=(64, 96, 192), squeeze=4, head_dropout=0.5,
    ),  # fmt: skip
    "base": dict(
        cameras=("front", "side", "wrist"), image_size=96, widths=(128, 256, 512), blocks=2, embed=512,
        prompt_width=128,
    ),  # fmt: skip
}


@dataclass
class Batch:
    """Training windows, stacked. frames uint8, actions float32 as in the data, prompts as sentences."""

    current: torch.Tensor | None  # (B, V, 3, H, W) uint8
    future: torch.Tensor | None  # (B, T, V, 3, H, W) uint8
    actions: torch.Tensor  # (B, K, A)
    pad: torch.Tensor  # (B, K) bool: True where there is no action, past the end or in video without actions
    prompts: list
    features: list | None = None  # [(B, T, V, g, g, C), ...]: a frozen generator's, in place of the frames

    def to(self, device):
        """The same on a device; cached features, kept in half precision, become float32."""
        on_gpu = torch.device(device).type == "cuda"
        moved = self._each(lambda t: t.to(device, non_blocking=on_gpu))
        moved.features = moved.features and [f.float() for f in moved.features]
        return moved

    def pin_memory(self):
        """The same in memory that a GPU can copy from while the processor goes on."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change):
        fields = {k: change(v) if torch.is_tensor(v) else v for k, v in vars(self).items()}
        return Batch(**fields | {"features": self.features and [change(f) for f in self.features]})


def collate(windows):
    """A list of windows (dicts of numpy arrays, see data/windows.py) -> Batch."""
    fields = {"current": None, "future": None} | default_collate(windows)  # cached features come without frames
    return Batch(prompts=fields.pop("prompt"), **fields)


class VideoPolicy(nn.Module):
    """The generator, the action head and the statistics that translate between pixels, actions and unit variance.

    stats: dict with "video_std" (a number, or one of each view: of future - current, or of the frames, in [-1, 1]
    units), "action_low" and "action_high" (A,).
    """

    def __init__(self, config, vocab, stats):
        super().__init__()
        c = self.config = config
        self.vocab = tuple(vocab)
        self.relative, self.parameterization, self.gated = PREDICTIONS[c.prediction]
        self.no_signal_from = c.sigma_max if c.zero_terminal_snr else math.inf  # the sigma; see add_noise
        views = len(c.cameras)
        self.text = PromptEncoder(len(self.vocab), c.prompt_words, c.prompt_width)
        self.unet = VideoUNet(
            frames=c.video_frames, views=views, patch=c.patch, widths=c.widths, blocks=c.blocks, attention=c.attention,
            embed=c.embed, prompt_width=c.prompt_width, out_channels=4 if self.gated else 3,
        )  # fmt: skip
        self.pairs = PairEncoder(patch=c.patch, widths=c.pair_widths) if c.decoder == "pixels" else None
        self.head = ActionHead(
            feature_channels=c.pair_widths[-1:] if self.pairs else self.unet.feature_channels, frames=c.video_frames,
            views=views, chunk=c.action_horizon, action_size=c.action_size, squeeze=c.squeeze, grid=c.grid,
            width=c.head_width,
        )  # fmt: skip
        for name in ("video_std", "action_low", "action_high"):
            self.register_buffer(name, torch.as_tensor(stats[name], dtype=torch.float32))
        self.video_std = self.video_std.expand(views).clone()  # a wrist's view changes more than a room's

    def generator_parameters(self):
        """What stage 1 trains: the U-Net and the prompt encoder."""
        return [*self.unet.parameters(), *self.text.parameters()]

    def head_parameters(self):
        """What stage 2 trains: the action head, and its pixel encoder where it reads pixels."""
        return [*self.head.parameters(), *(self.pairs.parameters() if self.pairs else ())]

    # ---------------------------------------------------------------- training

    def video_loss(self, batch, noise):
        """Stage 1: how far D(y + sigma n) is from the true futures y -> (scalar, features as from `features`)."""
        y, denoised, maps = self.denoise_future(batch, noise)
        weight = append_dims(loss_weight(noise.video_sigma, self.parameterization), y)
        return (weight * (denoised - y) ** 2).mean(), self.head.pool(maps)

    def action_loss(self, batch, noise, features):
        """Stage 2: how far the actions that the head denoises are from the demonstrated ones -> scalar.

        Padded actions add nothing; the loss divides by B R K A all the same, so that the mean over shards of a batch is
        the loss of the batch.
        """
        keep = ~batch.pad[:, :, None]  # (B, K, 1)
        a = torch.where(keep, self.normalize_actions(batch.actions), 0.0)  # (B, K, A)
        keep, a = (z.repeat_interleave(noise.action.shape[1], dim=0) for z in (keep, a))  # (B R, K, ...)
        sigma = noise.action_sigma.flatten()  # (B R,)
        x = add_noise(a, sigma, noise.action.flatten(0, 1), self.no_signal_from)
        denoised = self.denoise_actions(x, sigma, self.head.summarise(features, noise.dropout_mask).flatten(0, 1))
        weight = append_dims(loss_weight(sigma, ACTION_PREDICTION), a)
        return torch.where(keep, weight * (denoised - a) ** 2, 0.0).mean()

    def features(self, batch, noise):
        """Pooled maps that the head reads in training: [(B,T,V,g,g,C), ...] of one pass over noisy true futures.

        Of a pixel decoder, its own maps of the true frames: an inverse dynamics model learns from what happened.
        """
        if self.pairs:
            return self.head.pool(self.pairs(to_float(batch.current), to_float(batch.future)))
        return self.head.pool(self.denoise_future(batch, noise)[2])

    def denoise_future(self, batch, noise):
        """One pass over noisy true futures -> (y (B,T,V,3,H,W), D(y + sigma n), feature maps)."""
        current = to_float(batch.current)  # (B, V, 3, H, W)
        y = self.normalize_video(to_float(batch.future), current)
        x = add_noise(y, noise.video_sigma, noise.video, self.no_signal_from)
        prompt = self.encode_prompts(batch.prompts, noise.drop_prompt)
        return y, *self.denoise(x, noise.video_sigma, current, prompt)

    # ------------------------------------------------------------------ acting

    @torch.no_grad()
    def act(self, frames, prompts, rng, video_steps=0, guidance=1.0, read_sigma=None, future=None):
        """Decide: current frames (B, V, 3, H, W) uint8 and B sentences -> (actions (B, K, A) as in the data, video).

        video_steps=0: the features of one pass at pure noise (Differs: the paper makes 30 steps). video_steps=N: N
        denoising steps first, then a pass at read_sigma (None: sigma_min), N + 1 in all. The video (B, T, V, 3, H, W)
        uint8 is what that last pass believes; after one pass, a blurred mean of the futures. future: see `imagine`; a
        pixel decoder sees those frames as they are.
        """
        video, maps = self.imagine(frames, prompts, rng, video_steps + 1, guidance, read_sigma, future)
        c = self.config
        if self.pairs:
            seen = video if future is None else future
            maps = self.pairs(to_float(frames, video.device), to_float(seen, video.device))
        summary = self.head.summarise(self.head.pool(maps))
        noise = torch.randn(len(prompts), c.action_horizon, c.action_size, generator=rng, device=rng.device)
        sigmas = schedule(c.action_steps, c.sigma_min, c.sigma_max).to(noise.device)

        def denoiser(x, sigma):
            return self.denoise_actions(x, sigma, summary), None

        chunk, _ = sample(denoiser, noise, sigmas, c.zero_terminal_snr)
        return self.unnormalize_actions(chunk.clamp(-1, 1)), video

    @torch.no_grad()
    def imagine(self, frames, prompts, rng, passes=8, guidance=1.0, read_sigma=None, future=None):
        """Sample the future video by `passes` passes of the U-Net, the last at read_sigma (None: sigma_min; a single
        one is at sigma_max) -> (video (B, T, V, 3, H, W) uint8, feature maps of the last pass).

        frames (B, V, 3, H, W) uint8 and B sentences. future (B, T, V, 3, H, W) uint8: what will really happen, from an
        oracle, takes the place of the sample: one pass at read_sigma over the true frames.
        """
        c, device = self.config, rng.device
        lowest = c.sigma_min if read_sigma is None else read_sigma
        current = to_float(frames, device)
        expected = (len(prompts), len(c.cameras), 3, c.image_size, c.image_size)
        assert current.shape == expected, f"frames {tuple(current.shape)}, the policy expects {expected}"
        no = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        prompt = self.encode_prompts(prompts, no)
        empty = self.encode_prompts(prompts, ~no) if guidance != 1.0 else None

        def denoiser(x, sigma):
            denoised, maps = self.denoise(x, sigma, current, prompt)
            if empty is not None:  # classifier-free guidance (arXiv 2207.12598)
                unconditional, _ = self.denoise(x, sigma, current, empty)
                denoised = unconditional + guidance * (denoised - unconditional)
            return denoised, maps

        size = (current.shape[0], c.video_frames, *current.shape[1:])
        noise = torch.randn(size, generator=rng, device=device)
        if future is None:
            y, maps = sample(denoiser, noise, schedule(passes, lowest, c.sigma_max).to(device), c.zero_terminal_snr)
        else:
            known = self.normalize_video(to_float(future, device), current)
            sigma = torch.full((len(prompts),), lowest, device=device)
            y, maps = denoiser(add_noise(known, sigma, noise, self.no_signal_from), sigma)
        return to_uint8(self.unnormalize_video(y, current)), maps

    # ------------------------------------------------------------------- parts

    def denoise(self, x, sigma, current, prompt):
        """D(x; sigma) of the video x (B, T, V, 3, H, W), EDM eq. 7: one pass of the U-Net -> (D, feature maps)."""
        c_in, c_skip, c_out, c_noise = precondition(sigma, self.parameterization)
        c_in, c_skip, c_out = (append_dims(c, x) for c in (c_in, c_skip, c_out))
        F, maps = self.unet(c_in * x, current, c_noise, prompt)
        F = F.float()  # the rest is done in float32 whatever the network computes in
        if self.gated:
            # Where the arm leaves, the change is "background minus arm": as sharp as the arm, and hard to hit. The gate
            # takes the current frame away, and content need only be background (a mask of this kind: Vondrick et al.,
            # arXiv 1609.02612). It starts nearly shut: nothing moves.
            content, gate = F.split((3, 1), dim=3)
            F = content - torch.sigmoid(gate - 3) * current[:, None] / append_dims(self.video_std, current[0])
        return c_skip * x + c_out * F, maps

    def denoise_actions(self, x, sigma, summary):
        """D(x; sigma) of the action chunk x (B, K, A), EDM eq. 7, given the head's summary of the features."""
        c_in, c_skip, c_out, c_noise = precondition(sigma, ACTION_PREDICTION)
        c_in, c_skip, c_out = (append_dims(c, x) for c in (c_in, c_skip, c_out))
        return c_skip * x + c_out * self.head(c_in * x, c_noise, summary).float()

    def encode_prompts(self, prompts, drop):
        """B sentences -> (B, D); where drop (B,) is True, the embedding of "no prompt"."""
        tokens = tokenize(prompts, self.vocab, self.config.prompt_words)
        return self.text(tokens.to(drop.device), drop)

    def normalize_video(self, future, current):
        """Frames in [-1, 1] -> what the U-Net denoises, of unit variance; unnormalize_video is the way back."""
        base = current[:, None] if self.relative else 0.0
        return (future - base) / append_dims(self.video_std, current[0])

    def unnormalize_video(self, y, current):
        base = current[:, None] if self.relative else 0.0
        return y * append_dims(self.video_std, current[0]) + base

    def normalize_actions(self, actions):
        """Motor units -> [-1, 1] by the training set's range of each dimension (one that never moves stays 0).

        Of all seventeen tasks the standard deviations are then 0.2 to 0.9; the diffusion takes them for 1.
        """
        span = self.action_high - self.action_low
        middle = (self.action_high + self.action_low) / 2
        return torch.where(span > 1e-6, 2 * (actions - middle) / span.clamp(min=1e-6), 0.0)

    def unnormalize_actions(self, scaled):
        return scaled * (self.action_high - self.action_low) / 2 + (self.action_high + self.action_low) / 2

    # ------------------------------------------------------------------- files

    def save(self, path):
        """Write config, vocabulary, statistics and weights to `path`, beside it first and then moved into place."""
        config, weights = dataclasses.asdict(self.config), self.state_dict()
        save_file({"format": FORMAT, "config": config, "vocab": list(self.vocab), "weights": weights}, path)

    @staticmethod
    def load(path, device="cpu"):
        """A policy from `path`, ready to act. Raises CheckpointError for anything that is not one."""
        contents = load_file(path, device)
        if contents.get("format") != FORMAT:
            was = f"{path}: field format is {contents.get('format')!r}, not {FORMAT!r}"
            raise CheckpointError(f"{was}; train it anew with train.py")
        try:
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in contents["config"].items()}
            fields.setdefault("zero_terminal_snr", False)  # policies from before there was this field
            config, vocab, weights = Config(**fields), contents["vocab"], contents["weights"]
            if not isinstance(vocab, list) or not all(isinstance(word, str) for word in vocab):
                raise ValueError("field vocab is no list of words")
            stats = {"video_std": 1.0} | dict.fromkeys(("action_low", "action_high"), [0.0] * config.action_size)
            with torch.device("meta"):  # shapes alone: what the file lacks is never made room for
                check_tensors(weights, VideoPolicy(config, vocab, stats).state_dict())
            policy = VideoPolicy(config, vocab, stats)
            policy.load_state_dict(weights)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
            told = f"{path}: config and weights do not fit this code ({brief(error)}); train it anew with train.py"
            raise CheckpointError(told) from None
        return policy.to(device).eval()


def to_float(frames, device=None):
    """uint8 frames, an array or a tensor -> float32 in [-1, 1]."""
    return torch.as_tensor(frames, device=device).float() / 127.5 - 1


def to_uint8(frames):
    """Floats in [-1, 1] -> uint8 frames."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
