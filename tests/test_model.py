"""The networks, the diffusion formulas and the policy."""

import dataclasses
import warnings

import pytest
import torch
from common import CONFIG, VOCAB, batch, policy

from model.action_head import ActionHead
from model.diffusion import add_noise, append_dims, loss_weight, noise_levels, precondition, sample, schedule
from model.layers import Attention, attend_space, attend_time
from model.text import PAD, UNKNOWN, tokenize
from model.unet import VideoUNet
from training.noise import draw_noise
from videopolicy import PREDICTIONS, Config, VideoPolicy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ideal_denoiser(x, sigma, mean=0.7, std=0.4):
    """E[y | x] for y ~ N(mean, std^2), x = y + sigma n: the posterior mean of two Gaussians."""
    s2 = append_dims(sigma, x) ** 2
    return (std**2 * x + s2 * mean) / (std**2 + s2), None


def test_sampler_reaches_a_known_gaussian():
    """Catches a wrong ODE, schedule or step: with the ideal denoiser, noise must come out as N(0.7, 0.4^2), each
    sample where the ODE puts it.
    """
    noise = torch.randn(20_000, 1, generator=generator())
    sigmas = schedule(400, 0.002, 40.0)
    samples, _ = sample(ideal_denoiser, noise, sigmas)
    assert abs(samples.mean() - 0.7) < 0.02
    assert abs(samples.std() - 0.4) < 0.01
    exact = 0.7 + 0.4 / (0.4**2 + 40.0**2) ** 0.5 * (40.0 * noise - 0.7)  # closed form of eq. 3 for a Gaussian
    assert (samples - exact).abs().max() < 0.05


def test_one_step_is_the_mean():
    """Catches a one-pass decision that does not come from the pass at pure noise."""
    noise = torch.randn(100, 1, generator=generator())
    samples, _ = sample(ideal_denoiser, noise, schedule(1, 0.05, 20.0))
    assert torch.equal(samples, ideal_denoiser(20.0 * noise, torch.full((100,), 20.0))[0])


def test_nothing_of_the_data_is_left_at_sigma_max():
    """Catches a future or an action that can be read off its noise in training, and is not there when acting."""
    y, other, n = torch.randn(3, 4, 5, 6, generator=generator())
    sigma = torch.tensor([20.0, 19.9, 0.05, 20.0])
    noisy = add_noise(y, sigma, n, 20.0)
    assert torch.equal(noisy[[0, 3]], 20.0 * n[[0, 3]])
    assert torch.equal(noisy[1:3], y[1:3] + append_dims(sigma[1:3], y) * n[1:3])
    p, one = policy(config=dataclasses.replace(CONFIG, zero_terminal_snr=True)), batch()
    two = dataclasses.replace(one, future=255 - one.future)
    noise = draw_noise(CONFIG, 3, generator(), p_sigma_max=1.0)
    with torch.no_grad():
        at_max = [p.features(b, noise) for b in (one, two)]
        noise.video_sigma[:] = 1.0
        below = [p.features(b, noise) for b in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(*at_max, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(*below, strict=True))


def test_the_second_look_has_all_of_what_the_first_believed():
    """Catches a first step that takes the noise for a part of the data, and shows the next pass a faded dream."""
    seen = []

    def denoiser(x, sigma):
        seen.append(x)
        return torch.full_like(x, 3.0), None

    noise = torch.randn(50, 2, generator=generator())
    sample(denoiser, noise, torch.tensor([20.0, 5.0, 1.0]), zero_terminal_snr=True)
    assert torch.equal(seen[0], 20 * noise)
    assert torch.allclose(seen[1], 3 + 5 * noise) and torch.allclose(seen[2], 3 + noise, atol=1e-5)


def test_schedule_falls_from_max_to_min():
    """Catches a schedule that is reversed or misses an end."""
    sigmas = schedule(9, 0.05, 20.0)
    assert torch.allclose(sigmas[[0, -1]], torch.tensor([20.0, 0.05]))
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("parameterization", ["clean", "velocity"])
def test_preconditioning_of_the_ideal_network(parameterization):
    """Catches a wrong c_skip or c_out: given the ideal F, D must be the posterior mean, and F and the input must
    have unit variance.
    """
    y, n = torch.randn(2, 50_000, 1, generator=generator())
    for level in (0.1, 1.0, 7.0):
        sigma = torch.full((len(y),), level)
        x = y + level * n
        mean = x / (1 + level**2)
        target = mean if parameterization == "clean" else torch.zeros_like(x)  # given x, y and n pull v both ways alike
        c_in, c_skip, c_out = (append_dims(c, x) for c in precondition(sigma, parameterization)[:3])
        assert abs((c_in * x).std() - 1) < 0.02
        assert torch.allclose(c_skip * x + c_out * target, mean, atol=1e-5)
        v = (y - c_skip * x) / c_out  # what F is trained towards
        assert abs(v.std() - 1) < 0.02
        if parameterization == "velocity":
            assert torch.allclose(loss_weight(sigma, parameterization), c_out.flatten(1)[:, 0] ** -2)


def test_an_unknown_parameterization_is_refused():
    """Catches a new one that is silently trained as another: preconditioned as velocity, weighted as clean."""
    for formula in (precondition, loss_weight):
        with pytest.raises(ValueError, match="epsilon"):
            formula(torch.ones(1), "epsilon")


def test_noise_levels_are_capped_at_sigma_max():
    """Catches levels beyond the one at which decisions are read, and a tail that is redrawn instead of moved."""
    sigma = noise_levels(torch.randn(10_000, generator=generator()), 1.0, 1.6, 20.0)
    assert sigma.max() == 20.0
    assert 0.08 < (sigma == 20.0).float().mean() < 0.13  # P(ln sigma > ln 20) = 0.106


def test_unet_shapes_with_every_axis_different():
    """Catches swapped axes: B, T, V, H and W all differ, and so do the widths."""
    torch.manual_seed(0)
    shape = {"widths": (32, 64, 96), "blocks": 1, "attention": (False, True, True)}
    unet = VideoUNet(frames=3, views=4, patch=2, **shape, embed=16, prompt_width=8)
    y, features = unet(torch.randn(2, 3, 4, 3, 16, 24), torch.randn(2, 4, 3, 16, 24), torch.randn(2), torch.randn(2, 8))
    assert y.shape == (2, 3, 4, 3, 16, 24)
    assert [tuple(f.shape) for f in features] == [(2, 3, 4, 96, 2, 3), (2, 3, 4, 64, 4, 6), (2, 3, 4, 32, 8, 12)]
    assert tuple(f.shape[3] for f in features) == unet.feature_channels


def test_head_shapes_with_every_axis_different():
    """Catches swapped axes in the head: B, T, V, K, A and both channel counts differ."""
    torch.manual_seed(0)
    head = ActionHead(
        feature_channels=(12, 8), frames=3, views=2, chunk=5, action_size=7, squeeze=4, grid=2, width=24
    )  # fmt: skip
    features = [torch.randn(4, 3, 2, 12, 2, 2), torch.randn(4, 3, 2, 8, 4, 6)]
    assert head(torch.randn(4, 5, 7), torch.randn(4), head.summarise(head.pool(features))).shape == (4, 5, 7)


def test_attention_goes_where_it_says():
    """Catches a reshape that mixes axes: a change at one place must reach its own frame (space) or its own position
    (time), and nothing else.
    """
    torch.manual_seed(0)
    attention = Attention(32)
    torch.nn.init.normal_(attention.out.weight)
    B, T, V, H, W = 2, 3, 2, 4, 5
    x = torch.randn(B * T * V, 32, H, W)
    moved = x.clone()
    moved.view(B, T, V, 32, H, W)[1, 2, 0, :, 3, 1] = torch.randn(32)
    for attend, reach in ((attend_space, (1, 2)), (attend_time, (1, slice(None), 0))):
        change = (
            (attend(attention, moved, B, T, V) - attend(attention, x, B, T, V)).abs().view(B, T, V, 32, H, W).amax(3)
        )
        touched = torch.zeros_like(change, dtype=torch.bool)
        if attend is attend_space:
            touched[reach] = True
        else:
            touched[1, :, 0, 3, 1] = True
        assert (change[touched] > 1e-6).all()
        assert (change[~touched] == 0).all()


def test_everything_reaches_the_dream():
    """Catches a disconnected input: current frame, noisy frames, noise level and prompt must each change the
    prediction.
    """
    p = policy().eval()
    torch.manual_seed(1)
    x, current = torch.randn(2, 3, 2, 3, 16, 16), torch.randn(2, 2, 3, 16, 16)
    no = torch.zeros(2, dtype=torch.bool)
    prompt = p.encode_prompts(["open the drawer"] * 2, no)
    one = torch.ones(2)
    base = p.denoise(x, one, current, prompt)[0]
    others = {
        "noisy": p.denoise(x + 0.1, one, current, prompt)[0],
        "sigma": p.denoise(x, one * 1.5, current, prompt)[0],
        "current": p.denoise(x, one, current + 0.1, prompt)[0],
        "prompt": p.denoise(x, one, current, p.encode_prompts(["close the drawer"] * 2, no))[0],
        "no prompt": p.denoise(x, one, current, p.encode_prompts(["open the drawer"] * 2, ~no))[0],
    }
    for name, other in others.items():
        assert (other - base).abs().max() > 1e-4, name


def test_batch_items_do_not_mix():
    """Catches a norm or an attention over the batch: an item's decision must not depend on its neighbours."""
    p = policy().eval()
    b = batch()
    noise = draw_noise(CONFIG, 3, generator())
    current = b.current.float() / 127.5 - 1
    prompt = p.encode_prompts(b.prompts, noise.drop_prompt)
    whole, _ = p.denoise(noise.video, noise.video_sigma, current, prompt)
    alone, _ = p.denoise(noise.video[1:2], noise.video_sigma[1:2], current[1:2], prompt[1:2])
    assert torch.allclose(whole[1:2], alone, atol=1e-5)


def test_words_and_unknown_words():
    """Catches a tokenizer that confuses words, ignores order or is silent about words it never saw."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = tokenize(["Close the drawer!", "the drawer close"], VOCAB, 4)
    assert known.tolist() == [[2, 5, 3, PAD], [5, 3, 2, PAD]]
    with pytest.warns(UserWarning, match="fridge"):
        assert tokenize(["open the fridge"], VOCAB, 4)[0, 2] == UNKNOWN


def test_prompt_dropout_is_per_clip():
    """Catches dropout drawn per frame (the paper's), under which no clip is ever wholly unconditional."""
    noise = draw_noise(dataclasses.replace(CONFIG, prompt_dropout=0.5), 64, generator())
    assert noise.drop_prompt.shape == (64,)
    assert 16 < noise.drop_prompt.sum() < 48


def test_video_and_action_noise_are_independent():
    """Catches one noise level shared by both streams."""
    noise = draw_noise(CONFIG, 2000, generator())
    logs = torch.stack([noise.video_sigma.log(), noise.action_sigma.flatten().log()])
    assert abs(torch.corrcoef(logs)[0, 1]) < 0.1


def action_loss(p, b, noise):
    """The loss of the actions, read off the features of the pass that it makes."""
    return p.action_loss(b, noise, p.features(b, noise))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_loss_and_gradients_of_each_target(prediction):
    """Catches a prediction target that does not train: finite losses, and a gradient in every weight."""
    p = policy(config=dataclasses.replace(CONFIG, prediction=prediction, prompt_dropout=0.5))
    b, noise = batch(), draw_noise(p.config, 3, generator(3))
    video, features = p.video_loss(b, noise)
    action = p.action_loss(b, noise, features)
    (video + action).backward()
    assert torch.isfinite(video) and torch.isfinite(action)
    for name, weight in p.named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
        assert name == "text.word.weight" or weight.grad.abs().sum() > 0, name


def test_padded_actions_and_unlabelled_clips_are_not_in_the_loss():
    """Catches training on the zeros past a demo's end, or on made-up actions of action-free video."""
    p, noise, b = policy(), draw_noise(CONFIG, 3, generator()), batch()
    b.pad[0, 2:] = True
    b.pad[2] = True
    before = action_loss(p, b, noise)
    b.actions[0, 2:] += 100.0
    b.actions[2] -= 50.0
    assert torch.equal(action_loss(p, b, noise), before)
    b.actions[1, 0] += 1.0
    assert not torch.equal(action_loss(p, b, noise), before)


def test_future_frames_do_not_reach_the_decision():
    """Catches a leak: act() sees the current frame only; the same frame, prompt and generator give the same chunk,
    bit for bit.
    """
    p, b = policy().eval(), batch()
    chunk, dream = p.act(b.current, b.prompts, generator(5))
    again, _ = p.act(b.current, b.prompts, generator(5))
    assert torch.equal(chunk, again)
    assert chunk.shape == (3, 5, 4) and dream.shape == (3, 3, 2, 3, 16, 16) and dream.dtype == torch.uint8
    other, _ = p.act(255 - b.current, b.prompts, generator(5))
    assert not torch.equal(chunk, other)


def test_actions_come_out_in_motor_units():
    """Catches a decision left in [-1, 1]: it must stay inside the range of the training actions, and scaling must be
    undone exactly.
    """
    p = policy().eval()
    b = batch()
    chunk, _ = p.act(b.current, b.prompts, generator())
    assert (chunk >= p.action_low - 1e-5).all() and (chunk <= p.action_high + 1e-5).all()
    assert torch.allclose(p.unnormalize_actions(p.normalize_actions(b.actions)), b.actions, atol=1e-6)


def test_an_action_that_never_moves_stays_put():
    """Catches a division by a range of zero (a gripper that stays closed in every demo)."""
    p = policy()
    p.action_low[2] = p.action_high[2] = 0.5
    b = batch()
    assert torch.isfinite(p.normalize_actions(b.actions)).all()
    chunk, _ = p.act(b.current, b.prompts, generator())
    assert torch.allclose(chunk[..., 2], torch.tensor(0.5))


@pytest.mark.parametrize("video_steps", [0, 1, 3])
def test_passes_of_the_unet_per_decision(video_steps):
    """Catches a decision that costs more passes than it says: N denoising steps and the pass that is read."""
    p, b = policy().eval(), batch()
    calls = []
    p.unet.register_forward_hook(lambda *_: calls.append(1))
    p.act(b.current, b.prompts, generator(), video_steps=video_steps)
    assert len(calls) == video_steps + 1


@pytest.mark.parametrize("decoder", ["features", "pixels"])
def test_an_oracle_takes_the_place_of_the_dream(decoder):
    """Catches a true future that is not read, or read after denoising: one pass, and another future, another chunk."""
    p, b = policy(config=dataclasses.replace(CONFIG, decoder=decoder)).eval(), batch()
    calls = []
    p.unet.register_forward_hook(lambda *_: calls.append(1))
    chunk, shown = p.act(b.current, b.prompts, generator(), future=b.future)
    assert len(calls) == 1 and shown.shape == b.future.shape
    assert not torch.equal(chunk, p.act(b.current, b.prompts, generator(), future=255 - b.future)[0])
    again, _ = p.act(b.current, b.prompts, generator(), future=b.future, read_sigma=5.0)
    assert torch.equal(chunk, again) == (decoder == "pixels")  # which sees the true frames, without noise


def test_features_are_read_at_the_noise_level_asked_for():
    """Catches --read-sigma ignored: the last pass of three must see that level, and by default the lowest."""
    p, b = policy().eval(), batch()
    seen = []
    p.unet.register_forward_hook(lambda _, inputs, __: seen.append(float(4 * inputs[2][0])))  # c_noise = ln(sigma) / 4
    p.act(b.current, b.prompts, generator(), video_steps=2, read_sigma=2.0)
    p.act(b.current, b.prompts, generator(), video_steps=2)
    levels = torch.tensor(seen).exp()
    assert torch.allclose(levels[[0, 2, 3, 5]], torch.tensor([20.0, 2.0, 20.0, 0.05]), rtol=1e-4)


def test_pixels_are_read_off_the_dreamed_frames():
    """Catches a pixel decoder that peeks at features: what it decides depends on the frames alone, in which a pair that
    stands still says so wherever it is, and its loss leaves the generator alone.
    """
    p = policy(config=dataclasses.replace(CONFIG, decoder="pixels"))
    action_loss(p, batch(), draw_noise(p.config, 3, generator(3))).backward()
    assert all(w.grad is None for w in p.generator_parameters())
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in p.pairs.parameters())
    current, future = torch.rand(2, 2, 3, 16, 16), torch.rand(2, 3, 2, 3, 16, 16)
    (maps,) = p.pairs(current, future)
    assert maps.shape[:4] == (2, 3, 2, p.config.pair_widths[-1])
    future[:, 2] += 1.0  # the last frame is in the last pair only
    (other,) = p.pairs(current, future)
    assert torch.equal(maps[:, :2], other[:, :2]) and not torch.equal(maps[:, 2], other[:, 2])


def test_both_losses_read_the_same_pass():
    """Catches joint training whose actions are read off another pass than the one that the video loss is of."""
    p, b, noise = policy(), batch(), draw_noise(CONFIG, 3, generator(3))
    with torch.no_grad():
        assert all(map(torch.equal, p.video_loss(b, noise)[1], p.features(b, noise)))


def test_noisy_chunks_of_one_clip_are_its_own():
    """Catches a chunk of actions that is denoised with the features of another clip, or with another's noise."""
    p, b = policy(), batch()
    noise = draw_noise(CONFIG, 3, generator(3), samples=4)
    assert noise.action.shape == (3, 4, 5, 4) and not torch.equal(noise.action[:, 0], noise.action[:, 1])

    def one(d):
        cut = {name: getattr(noise, name)[:, d : d + 1] for name in ("action", "action_sigma", "dropout_mask")}
        return action_loss(p, b, dataclasses.replace(noise, **cut))

    with torch.no_grad():
        every = torch.stack([one(d) for d in range(4)])
        assert torch.allclose(action_loss(p, b, noise), every.mean(), rtol=1e-5) and len(set(every.tolist())) == 4


def test_guidance_moves_the_dream_along_the_prompt():
    """Catches guidance that is ignored: at weight 1 it changes nothing, at 3 it changes the dream."""
    p, b = policy().eval(), batch()
    plain, _ = p.imagine(b.current, b.prompts, generator(), 2)
    assert torch.equal(plain, p.imagine(b.current, b.prompts, generator(), 2, guidance=1.0)[0])
    assert not torch.equal(plain, p.imagine(b.current, b.prompts, generator(), 2, guidance=3.0)[0])


def test_save_and_load_decide_alike(tmp_path):
    """Catches anything that acting needs and the checkpoint lacks: statistics, vocabulary, config."""
    p, b = policy().eval(), batch()
    p.save(tmp_path / "policy.pt")
    q = VideoPolicy.load(tmp_path / "policy.pt")
    assert q.config == p.config and q.vocab == p.vocab
    assert torch.equal(p.act(b.current, b.prompts, generator(2))[0], q.act(b.current, b.prompts, generator(2))[0])
    assert [f.name for f in tmp_path.iterdir()] == ["policy.pt"]


def test_config_refuses_what_cannot_work():
    """Catches an image size that the U-Net would fail on deep inside, and other impossible shapes."""
    for wrong in (
        {"image_size": 40},
        {"cameras": ()},
        {"video_frames": 0},
        {"prediction": "future"},
        {"attention": (True,)},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(**wrong)
