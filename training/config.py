"""How to train: a line for each choice, with its reason where there is one. Trials: docs/results.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """How to train; what is trained is videopolicy.Config. A comment says what a number is of, and why."""

    steps: int = 1500  # of the generator: of stage 1, or of the only stage where both parts learn at once
    head_steps: int = 2000  # of stage 2
    minutes: float | None = None  # wall time of all stages instead: what comes out then depends on the machine
    seed: int = 0  # of initial weights, data order and noise
    precision: str = "fp32"  # or "bf16", where that is faster
    batch_size: int = 8  # of all processes; 8 beat 16 with half the steps by 0.3 dB: a CPU gains nothing from more
    muon: bool = True  # trains the generator's matrices: the dream of 900 steps of AdamW in 450; False: AdamW
    lr: float = 4e-3  # of the generator, both optimizers; 2e-3 and 8e-3 dream worse by 0.3 dB
    head_lr: float = 2e-3  # of the head, AdamW
    weight_decay: float = 0.01
    momentum: float = 0.95  # of Muon
    betas: tuple = (0.9, 0.99)  # of AdamW; a short memory: a run has a few thousand steps
    max_grad_norm: float = 1.0  # of each part
    warmup: float = 0.03  # share of a stage
    cooldown: float = 0.5  # share of a stage, linear to zero. Differs: a constant rate leaves checkpoints noisy
    ema_decay: float = 0.998  # of the averaged weights, which are what acts
    video_share: float = 0.75  # of --minutes goes to stage 1
    p_sigma_max: float = 0.6  # of the windows lie at sigma_max, where one-pass decisions read the features
    color_jitter: float = 0.0  # how much the colours of training windows vary
    action_noise_samples: int = 1  # noisy chunks of actions that are denoised for each window of a step
    cache_size: int = 4096  # windows whose features are cached for stage 2, at most
    noise_per_window: int = 8  # at most so many noise samples of each of them, on average
    head_batch: int = 128  # batch size of stage 2

    def progress(self, state, share):
        """How far a stage is, 0 to 1: of its steps, or of its share of the minutes."""
        if self.minutes is None:
            return state.step / self.steps
        left = 60 * self.minutes * share - state.cache_seconds
        return max(0.0, (state.seconds - state.cache_seconds) / left) if left > 0 else 1.0


# A cached window of base is 0.7 MB, on the host: 6 GB.
TRAIN_PRESETS = {
    # 91 of 100 scenes, [0.84, 0.95]: TurnOffSinkFaucet, 400 demos, training seed 0, --no-zero-terminal-snr
    "tiny": TrainConfig(),
    # 495 of 850 scenes: all seventeen tasks, 100 demos of each (the head 80), seed 0, 5,000 more steps with --init.
    # Eight noisy chunks cost little beside the features; with one the held-out action error was 0.042 instead of 0.038.
    # Color jitter helps with unseen objects, and is not free at home (docs/results.md).
    "small": TrainConfig(steps=10000, head_steps=6000, action_noise_samples=8, cache_size=24576),
    "base": TrainConfig(
        steps=15000, head_steps=5000, batch_size=64, lr=5e-4, head_lr=1e-3, ema_decay=0.9995, cache_size=8192
    ),  # never run: no GPU was available
}
