"""Video Policy: a robot policy decoded from a video generator (Liang et al. 2025, arXiv 2508.00795).

    y        = (future - current) / std                       what is going to change, (B, T, V, 3, H, W)
    x        = y + sigma * noise                              at the highest sigma: noise only, as when acting
    F, feats = generator(c_in * x, current, c_noise, prompt)  model/unet.py
    D        = c_skip * x + c_out * F                         the estimate of y, by default F itself; model/diffusion.py
    video loss   = weight(sigma) * |D - y|^2                  stage 1: learn to generate video         train.py
    A_hat    = head(feats, noisy actions, their sigma)        model/action_head.py
    action loss  = weight * |A_hat - actions|^2               stage 2: the generator frozen, learn to act
    acting: one pass of the generator on pure noise -> feats -> denoise the chunk -> execute it -> decide again

Axes, the same letters in every file: B batch, T future frames, V cameras, C channels, H W pixels, K actions in a chunk,
A action size, D width, L words, R noise samples for each window, g rows and columns of a pooled feature map.

One training window, for video_stride 4: a frame at every 4th control step, an action at every one (20 Hz).

    control step   0    1    2    3    4    5  ...   8  ...  28  ...  32
    frames         current             f1            f2      f7       f8
    actions        a0   a1   a2   a3   a4   a5 ...                a31

"Differs:" marks what is unlike the paper. Read next: train.py, model/diffusion.py, model/unet.py, model/action_head.py.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import default_collate

from model.action_head import ActionHead, HeadConfig
from model.diffusion import add_noise, append_dims, loss_weight, precondition, sample, schedule
from model.layers import ATTENTION_HEAD
from model.prompt_encoder import PromptEncoder, tokenize
from model.unet import VideoUNet
from util.files import InputError, brief, check_call, check_ranges, load_tensors, save_tensors

FORMAT = "video-policy-5"  # of policy.pt
GENERATORS = {"unet": VideoUNet}  # a new generator is one file in model/ and one row here
HEADS = {"mlp": ActionHead}  # a new action head likewise
ACTION_PREDICTION = "clean"  # the head's F is the chunk itself, see model/diffusion.py
FAR = 3.0  # in training, normalized actions are clamped to [-FAR, FAR]
# What the generator is trained to predict: (whether its data is the change from the current frame, what F is in
# model/diffusion.py, whether a fourth channel is a gate that takes the current frame away).
PREDICTIONS = {
    "gated": (True, "clean", True),  # future = (1 - gate) * current + std * content
    "frame": (False, "clean", False),  # future = std * content
    "velocity": (False, "velocity", False),  # Differs: only this is the paper's, v-prediction of the frames
}


@dataclass(frozen=True)
class Config:
    """Everything that shapes the networks and their noise; saved with the weights. No field is derived from another."""

    cameras: tuple = ("front",)  # Differs: the paper has three views
    image_size: int = 64  # pixels, a multiple of patch * 2^(levels - 1)
    drawn_size: int = 0  # pixels of the pictures in the files, if training resized them; 0: it did not
    video_frames: int = 8  # T, as in the paper
    video_stride: int = 4  # control steps between frames: 8 x 4 = 32 steps = 1.6 s, as in the paper
    action_horizon: int = 32  # K, as in the paper
    action_space: str = "pose"  # or "target", what a command aims at (data/poses.py). Differs: the paper has "delta"
    pose_lead: int = 2  # "pose": an action is the pose of the hand so many control steps later
    action_size: int = 10  # A: 3 position, 6 rotation, 1 gripper; of deltas 3, 3, 1
    # The generator.
    generator_name: str = "unet"
    patch: int = 4  # pixel-unshuffle: convolutions at full resolution would cost 16 times as much
    widths: tuple = (48, 64, 128)
    blocks: int = 1
    attention: tuple = (False, True, True)  # at 16x16 it would cost more than all convolutions together
    embed: int = 128
    prediction: str = "gated"
    prompt_words: int = 24
    prompt_width: int = 64
    prompt_dropout: float = 0.1  # per window, so that an unconditional one exists. Differs: per frame in the paper
    head_name: str = "mlp"
    head: HeadConfig = HeadConfig()
    action_steps: int = 8  # denoising steps of the action chunk; each is one call of the small MLP
    # Noise. In units of the data's standard deviation; ln sigma ~ N(mean, std^2), cut off at sigma_max; the paper's.
    video_sigma_mean: float = 1.0
    video_sigma_std: float = 1.6
    action_sigma_mean: float = 1.0  # independent of the video's, see training/noise.py
    action_sigma_std: float = 1.6
    sigma_min: float = 0.05
    sigma_max: float = 20.0
    p_sigma_max: float = 0.6  # share of windows at sigma_max, as when acting. Differs: the paper has 0
    zero_terminal_snr: bool = True  # whether the input at sigma_max is noise only, see VideoPolicy.add_noise

    def __post_init__(self):
        multiple = self.patch * 2 ** (len(self.widths) - 1)  # so that every level of the U-Net has whole pixels
        heads = all(w % ATTENTION_HEAD == 0 for w, used in zip(self.widths, self.attention, strict=False) if used)
        check_ranges(
            self,
            cameras=(0 < len(set(self.cameras)) == len(self.cameras), "one or more different names"),
            image_size=(self.image_size > 0 and self.image_size % multiple == 0, f"a multiple of {multiple}"),
            video_frames=(self.video_frames > 0, "at least 1"),
            video_stride=(self.video_stride > 0 or self.prediction == "frame", "at least 1"),  # 0: the current frame
            generator_name=(self.generator_name in GENERATORS, f"one of {', '.join(GENERATORS)}"),
            attention=(len(self.attention) == len(self.widths), "as many as widths"),
            widths=(heads, f"multiples of {ATTENTION_HEAD} where there is attention"),
            action_space=(self.action_space in ("pose", "target", "delta"), "pose, target or delta"),
            pose_lead=(self.pose_lead >= 0, "at least 0"),
            prediction=(self.prediction in PREDICTIONS, f"one of {', '.join(PREDICTIONS)}"),
            prompt_width=(self.prompt_width % ATTENTION_HEAD == 0, f"a multiple of {ATTENTION_HEAD}"),
            head_name=(self.head_name in HEADS, f"one of {', '.join(HEADS)}"),
            sigma_min=(0 < self.sigma_min < self.sigma_max, "between 0 and sigma_max"),
        )


@dataclass
class Batch:
    """Training windows, stacked. frames uint8, actions float32 as in the data, prompts as text."""

    current: torch.Tensor | None  # (B, V, 3, H, W) uint8
    future: torch.Tensor | None  # (B, T, V, 3, H, W) uint8
    actions: torch.Tensor  # (B, K, A)
    pad: torch.Tensor  # (B, K) bool: True where there is no action, past the end or in video without actions
    prompts: list
    features: list | None = None  # [(B, T, V, g, g, C), ...]: a frozen generator's, in place of the frames


def collate(windows):
    """A list of windows (dicts of numpy arrays, see data/windows.py) -> Batch; cached features come without frames."""
    fields = {"current": None, "future": None} | default_collate(windows)
    return Batch(prompts=fields.pop("prompt"), **fields)


class VideoPolicy(nn.Module):
    """The generator, the action head and the statistics that translate between pixels, actions and unit variance.
    stats: dict with "video_std" (a number, or one of each view: of future - current, or of the frames, in [-1, 1]
    units), "action_low" and "action_high" (A,).
    """

    FILE = "policy.pt"  # in a run folder

    def __init__(self, config, vocab, stats):
        super().__init__()
        c = self.config = config
        self.vocab = tuple(vocab)
        self.relative, self.parameterization, self.gated = PREDICTIONS[c.prediction]
        views = len(c.cameras)
        self.prompt_encoder = PromptEncoder(len(self.vocab), c.prompt_words, c.prompt_width)
        self.generator = GENERATORS[c.generator_name](
            frames=c.video_frames, views=views, image_size=c.image_size, patch=c.patch, widths=c.widths,
            blocks=c.blocks, attention=c.attention, embed=c.embed, prompt_width=c.prompt_width,
            out_channels=4 if self.gated else 3,
        )  # fmt: skip
        shapes = self.generator.feature_shapes
        self.head = HEADS[c.head_name](c.head, shapes, chunk=c.action_horizon, action_size=c.action_size)
        for name in ("video_std", "action_low", "action_high"):
            self.register_buffer(name, torch.as_tensor(stats[name], dtype=torch.float32))
        self.video_std = self.video_std.expand(views).clone()  # a wrist's view changes more than a room's

    def generator_modules(self):
        """What stage 1 trains: the generator and the prompt encoder."""
        return nn.ModuleList([self.generator, self.prompt_encoder])

    # ---------------------------------------------------------------- training

    def video_loss(self, batch, noise):
        """Stage 1: how far D(y + sigma n) is from the true futures y -> (scalar, features as from `features`)."""
        y, denoised, maps = self.denoise_future(batch, noise)
        weight = append_dims(loss_weight(noise.video_sigma, self.parameterization), y)
        return (weight * (denoised - y) ** 2).mean(), self.head.pool(maps)

    def action_loss(self, batch, noise, features):
        """Stage 2: how far the actions that the head denoises are from the demonstrated ones -> scalar. Padded actions
        are zeros in a mean over all B R K A, so that equal shards of a batch average to its own.
        """
        keep = ~batch.pad[:, :, None]  # (B, K, 1)
        a = torch.where(keep, self.normalize_actions(batch.actions).clamp(-FAR, FAR), 0.0)  # (B, K, A)
        keep, a = (z.repeat_interleave(noise.action.shape[1], dim=0) for z in (keep, a))  # (B R, K, ...)
        sigma = noise.action_sigma.flatten()  # (B R,)
        x = self.add_noise(a, sigma, noise.action.flatten(0, 1))
        denoised = self.denoise_actions(x, sigma, self.head.summarise(features, noise.dropout).flatten(0, 1))
        weight = append_dims(loss_weight(sigma, ACTION_PREDICTION), a)
        return torch.where(keep, weight * (denoised - a) ** 2, 0.0).mean()

    def features(self, batch, noise):
        """What the head reads in training: [(B,T,V,g,g,C), ...] of one pass over noisy true futures."""
        return self.head.pool(self.denoise_future(batch, noise)[2])

    def denoise_future(self, batch, noise):
        """One pass over noisy true futures -> (y (B,T,V,3,H,W), D(y + sigma n), feature maps)."""
        current = to_float(batch.current)  # (B, V, 3, H, W)
        y = self.normalize_video(to_float(batch.future), current)
        x = self.add_noise(y, noise.video_sigma, noise.video)
        prompt = self.encode_prompts(batch.prompts, noise.drop_prompt)
        return y, *self.denoise_video(x, noise.video_sigma, current, prompt)

    def add_noise(self, y, sigma, noise):
        """The input of a network in training, y + sigma n; at sigma_max, with zero terminal SNR, sigma n only."""
        return add_noise(y, sigma, noise, self.config.sigma_max if self.config.zero_terminal_snr else math.inf)

    # ------------------------------------------------------------------ acting

    @torch.no_grad()
    def act(self, frames, prompts, rng, video_steps=0, guidance=1.0):
        """Decide: current frames (B, V, 3, H, W) uint8 and B prompts -> (actions (B, K, A) as in the data, video).

        video_steps=N: N + 1 passes from pure noise, the last one at sigma_min; 0: one pass, at sigma_max (Differs: the
        paper takes 30). The video (B, T, V, 3, H, W) uint8 is what the last pass predicts; after one pass it is
        blurred, the mean of the possible futures.
        """
        check_call(self, frames, prompts, rng, video_steps, least=0)
        video, maps = self.imagine(frames, prompts, rng, video_steps + 1, guidance)
        return self.decode_actions(maps, rng), video

    @torch.no_grad()
    def imagine(self, frames, prompts, rng, steps=8, guidance=1.0):
        """Generate the future video in so many denoising steps, one pass of the generator each -> (video
        (B, T, V, 3, H, W) uint8, feature maps of the last pass). frames (B, V, 3, H, W) uint8 and B prompts.
        """
        check_call(self, frames, prompts, rng, steps, least=1)
        c, device, B = self.config, rng.device, len(prompts)
        current, no = to_float(frames, device), torch.zeros(B, dtype=torch.bool, device=device)
        prompt = self.encode_prompts(prompts, no)
        empty = self.encode_prompts(prompts, ~no) if guidance != 1.0 else None

        def denoiser(x, sigma):
            denoised, maps = self.denoise_video(x, sigma, current, prompt)
            if empty is not None:  # classifier-free guidance (arXiv 2207.12598)
                unconditional, _ = self.denoise_video(x, sigma, current, empty)
                denoised = unconditional + guidance * (denoised - unconditional)
            return denoised, maps

        noise = torch.randn((B, c.video_frames, *current.shape[1:]), generator=rng, device=device)
        y, maps = sample(denoiser, noise, self.video_sigmas(steps).to(device), c.zero_terminal_snr)
        return to_uint8(self.unnormalize_video(y, current)), maps

    def video_sigmas(self, steps):
        """The noise levels that `imagine` goes through."""
        return schedule(steps, self.config.sigma_min, self.config.sigma_max)

    @torch.no_grad()
    def decode_actions(self, maps, rng):
        """Denoise a chunk of actions, given the generator's feature maps -> (B, K, A) as in the data."""
        c, device, summary = self.config, rng.device, self.head.summarise(self.head.pool(maps))
        noise = torch.randn(len(maps[0]), c.action_horizon, c.action_size, generator=rng, device=device)
        sigmas = schedule(c.action_steps, c.sigma_min, c.sigma_max).to(device)
        chunk, _ = sample(lambda *x: (self.denoise_actions(*x, summary), None), noise, sigmas, c.zero_terminal_snr)
        # Commands end at the range of training; a pose may lie outside of it.
        return self.unnormalize_actions(chunk.clamp(-1, 1) if c.action_space == "delta" else chunk)

    # ------------------------------------------------------------------- parts

    def denoise_video(self, x, sigma, current, prompt):
        """D(x; sigma) of the video x (B, T, V, 3, H, W), EDM eq. 7: one pass of the generator -> (D, feature maps)."""
        c_in, c_skip, c_out, c_noise = precondition(sigma, self.parameterization, x)
        F, maps = self.generator(c_in * x, current, c_noise, prompt)
        F = F.float()  # the rest is done in float32 whatever the network computes in
        if self.gated:
            # Where the arm leaves, the change is "background minus arm", as sharp as the arm. The gate takes the
            # current frame away: content is background only (arXiv 1609.02612). It starts nearly shut: nothing moves.
            content, gate = F.split((3, 1), dim=3)
            F = content - torch.sigmoid(gate - 3) * current[:, None] / append_dims(self.video_std, current[0])
        return c_skip * x + c_out * F, maps

    def denoise_actions(self, x, sigma, summary):
        """D(x; sigma) of the action chunk x (B, K, A), EDM eq. 7, given the head's summary of the features."""
        c_in, c_skip, c_out, c_noise = precondition(sigma, ACTION_PREDICTION, x)
        return c_skip * x + c_out * self.head(c_in * x, c_noise, summary).float()

    def encode_prompts(self, prompts, drop):
        """B prompts -> (B, D); where drop (B,) is True, the embedding of "no prompt"."""
        return self.prompt_encoder(tokenize(prompts, self.vocab, self.config.prompt_words).to(drop.device), drop)

    def normalize_video(self, future, current):
        """Frames in [-1, 1] -> what the generator denoises, of unit variance; unnormalize_video is the way back."""
        return (future - self.relative * current[:, None]) / append_dims(self.video_std, current[0])

    def unnormalize_video(self, y, current):
        return y * append_dims(self.video_std, current[0]) + self.relative * current[:, None]

    def normalize_actions(self, actions):
        """Units of the data -> [-1, 1] by the range of the training set (a number that never changes stays 0)."""
        span = self.action_high - self.action_low
        middle = (self.action_high + self.action_low) / 2
        return torch.where(span > 1e-6, 2 * (actions - middle) / span.clamp(min=1e-6), 0.0)

    def unnormalize_actions(self, scaled):
        return scaled * (self.action_high - self.action_low) / 2 + (self.action_high + self.action_low) / 2

    # ------------------------------------------------------------------- files

    def save(self, path, half=False):
        """Write config, vocabulary, statistics and weights to `path`; half: the weights in half precision."""
        weights = self.state_dict()
        if half:  # but for the statistics, whose rounding would move every action
            weights = {k: v if k in dict(self.named_buffers()) else v.half() for k, v in weights.items()}
        config, vocab = dataclasses.asdict(self.config), list(self.vocab)
        save_tensors({"format": FORMAT, "config": config, "vocab": vocab, "weights": weights}, path)

    @staticmethod
    def load(path, device="cpu"):
        """A policy from `path`, ready to act. InputError for anything that is not one."""
        found = load_tensors(path, {"format": str, "config": dict, "vocab": list, "weights": dict}, device)
        if found["format"] != FORMAT:
            raise InputError(f"{path}: field format is {found['format']!r}, not {FORMAT!r}; train it again")
        try:
            fields = {"action_space": "delta"} | found["config"]  # a file without this field has commands
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            config = Config(**fields | {"head": HEADS[fields["head_name"]].Config(**fields["head"])})
            stats = {"video_std": 1.0} | dict.fromkeys(("action_low", "action_high"), [0.0] * config.action_size)
            policy = VideoPolicy(config, found["vocab"], stats)
            policy.load_state_dict(found["weights"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: config and weights do not fit ({brief(error)}); train it again") from None
        return policy.to(device).eval()


def to_float(frames, device=None):
    """uint8 frames, an array or a tensor -> float32 in [-1, 1]."""
    return torch.as_tensor(frames, device=device).float() / 127.5 - 1


def to_uint8(frames):
    """Floats in [-1, 1] -> uint8 frames."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
