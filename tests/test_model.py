"""The networks, the diffusion formulas and the policy."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from common import CONFIG, VOCAB, batch, policy

import train
from data.poses import pose_errors
from data.windows import Clip, PoseWindows, command_range, pose_range
from model.action_head import ActionHead, HeadConfig
from model.diffusion import add_noise, append_dims, loss_weight, noise_levels, precondition, sample, schedule
from model.layers import Attention, attend_space, attend_time
from model.pose_estimator import OFFSETS
from model.prompt_encoder import PAD, UNKNOWN, tokenize, words
from model.unet import VideoUNet
from training.labels import estimate, make_estimator
from training.noise import draw_noise
from training.run import TrainState
from util.figures import held_out_measures
from util.files import InputError, load_tensors, save_tensors
from videopolicy import PREDICTIONS, VideoPolicy, to_float, to_uint8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise_of(p, size=3, seed=0, **more):
    return draw_noise(p.config, p.head, batch(size), generator(seed), **more)


def ideal_denoiser(x, sigma):
    """E[y | x] for y ~ N(0.7, 0.4^2), x = y + sigma n: the posterior mean of two Gaussians."""
    variance = append_dims(sigma, x) ** 2
    return (0.16 * x + variance * 0.7) / (0.16 + variance), None


def test_sampler_against_a_closed_form():
    """Catches a wrong ODE, schedule or step: with the ideal denoiser, each sample must end where the ODE puts it, and
    one step must be the mean at pure noise.
    """
    noise, sigmas = torch.randn(20_000, 1, generator=generator()), schedule(400, 0.002, 40.0)
    assert torch.allclose(sigmas[[0, -1]], torch.tensor([40.0, 0.002])) and (sigmas.diff() < 0).all()
    exact = 0.7 + 0.4 / (0.16 + 40.0**2) ** 0.5 * (40.0 * noise - 0.7)  # of eq. 3 for a Gaussian
    assert (sample(ideal_denoiser, noise, sigmas)[0] - exact).abs().max() < 0.05
    one, _ = sample(ideal_denoiser, noise, schedule(1, 0.05, 20.0))
    assert torch.equal(one, ideal_denoiser(20.0 * noise, torch.full((len(noise),), 20.0))[0])


def test_zero_terminal_snr_in_training_and_sampling():
    """Catches a future that can be read off its noise in training and is not there when acting, a head that acts on
    other features than it was trained on, and a first step that hands the next one a faded video.
    """
    y, n = torch.randn(2, 4, 5, 6, generator=generator())
    sigma = torch.tensor([20.0, 19.9, 0.05, 20.0])
    noisy, signal = add_noise(y, sigma, n, 20.0), torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert torch.equal(noisy, append_dims(signal, y) * y + append_dims(sigma, y) * n)
    one, seen = batch(), []
    two = dataclasses.replace(one, future=255 - one.future)
    drawn = {"video": torch.randn(3, 3, 2, 3, 16, 16, generator=generator(5)), "drop_prompt": torch.zeros(3).bool()}
    for zero_snr, level in ((True, 20.0), (True, 1.0), (False, 20.0)):
        p = policy(config=dataclasses.replace(CONFIG, zero_terminal_snr=zero_snr)).eval()
        noise = dataclasses.replace(noise_of(p), video_sigma=torch.full((3,), level), **drawn)
        acting = p.head.pool(p.imagine(one.current, one.prompts, generator(5), 1)[1])
        for other in (acting, p.features(two, noise)):
            alike = {torch.equal(a, b) for a, b in zip(p.features(one, noise), other, strict=True)}
            assert alike == {zero_snr and level == 20.0}
    sample(lambda x, _: (seen.append(x), (torch.full_like(x, 3.0), None))[1], n, torch.tensor([20.0, 5.0, 1.0]), True)
    assert torch.equal(seen[0], 20 * n)
    assert torch.allclose(seen[1], 3 + 5 * n) and torch.allclose(seen[2], 3 + n, atol=1e-5)


@pytest.mark.parametrize("parameterization", ["clean", "velocity"])
def test_preconditioning_of_the_ideal_network(parameterization):
    """Catches a wrong c_skip, c_out or loss weight: given the ideal F, D must be the posterior mean, and F and the
    input must have unit variance.
    """
    y, n = torch.randn(2, 50_000, 1, generator=generator())
    clean = parameterization == "clean"
    for level in (0.1, 1.0, 7.0):
        sigma, x, mean = torch.full((len(y),), level), y + level * n, (y + level * n) / (1 + level**2)
        c_in, c_skip, c_out, _ = precondition(sigma, parameterization, x)
        target = mean if clean else torch.zeros_like(x)  # given x, y and n pull v both ways alike
        assert torch.allclose(c_skip * x + c_out * target, mean, atol=1e-5)
        v = (y - c_skip * x) / c_out  # what F is trained towards
        assert abs((c_in * x).std() - 1) < 0.02 and abs(v.std() - 1) < 0.02
        cap = 5.0 if clean else float("inf")
        assert torch.allclose(loss_weight(sigma, parameterization), torch.tensor(1 + level**-2).clamp(max=cap))


def test_noise_of_a_step():
    """Catches noise levels beyond the one at which decisions are read, a tail that is redrawn, one level for video and
    actions, prompt dropout per frame, a share at sigma_max that is ignored, and dropout of another rate than asked for.
    """
    sigma = noise_levels(torch.randn(10_000, generator=generator()), 1.0, 1.6, 20.0)
    assert sigma.max() == 20.0 and 0.08 < (sigma == 20.0).float().mean() < 0.13  # P(ln sigma > ln 20) = 0.106
    head = HeadConfig(grid=1, dropout=0.75)
    p, many = policy(config=dataclasses.replace(CONFIG, prompt_dropout=0.5, p_sigma_max=0.5, head=head)), batch()
    many.prompts = ["drawer"] * 2000
    noise = draw_noise(p.config, p.head, many, generator(), video=False)
    logs = torch.stack([noise.video_sigma.log(), noise.action_sigma.flatten().log()])
    assert abs(torch.corrcoef(logs)[0, 1]) < 0.1
    assert noise.drop_prompt.shape == (2000,) and 900 < noise.drop_prompt.sum() < 1100
    assert noise.dropout.unique().tolist() == [0.0, 4.0] and abs(noise.dropout.mean() - 1) < 0.02
    assert 0.5 < (noise.video_sigma == 20.0).float().mean() < 0.6  # 0.5 + 0.5 * 0.106


def test_network_shapes_with_every_axis_different():
    """Catches swapped axes: B, T, V, H, W, K, A and all widths differ, and what a network declares is what it makes."""
    torch.manual_seed(0)
    shape = {"widths": (32, 64, 96), "blocks": 1, "attention": (False, True, True), "embed": 16, "prompt_width": 8}
    unet = VideoUNet(frames=3, views=4, image_size=16, patch=2, out_channels=5, **shape)
    y, maps = unet(torch.randn(2, 3, 4, 3, 16, 24), torch.randn(2, 4, 3, 16, 24), torch.randn(2), torch.randn(2, 8))
    assert y.shape == (2, 3, 4, 5, 16, 24)
    assert [tuple(f.shape) for f in maps] == [(2, 3, 4, 96, 2, 3), (2, 3, 4, 64, 4, 6), (2, 3, 4, 32, 8, 12)]
    assert unet.feature_shapes == [(3, 4, 96, 2, 2), (3, 4, 64, 4, 4), (3, 4, 32, 8, 8)]  # of square pictures
    head = ActionHead(HeadConfig(squeeze=6, grid=2, width=24), unet.feature_shapes, chunk=5, action_size=7)
    pooled = head.pool(maps)
    assert [tuple(f.shape) for f in pooled] == [(2, 3, 4, 2, 2, C) for C in (96, 64, 32)]
    assert torch.allclose(pooled[1][1, 2, 3, 0, 1], maps[1][1, 2, 3, :, :2, 3:].mean((1, 2)))
    assert head.summarise(pooled, head.draw_dropout(2, 8, generator())).shape == (2, 8, 24)
    assert head(torch.randn(2, 5, 7), torch.randn(2), head.summarise(pooled)).shape == (2, 5, 7)


def test_attention_goes_where_it_says():
    """Catches a reshape that mixes axes: a change at one place must reach its own frame (space) or its own position
    (time), and nothing else.
    """
    torch.manual_seed(0)
    attention, (B, T, V, H, W) = Attention(32), (2, 3, 4, 5, 6)
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(B * T * V, 32, H, W)
    moved = x.clone()
    moved.view(B, T, V, 32, H, W)[1, 2, 0, :, 3, 1] = torch.randn(32)
    for attend, reach in ((attend_space, (1, 2)), (attend_time, (1, slice(None), 0, 3, 1))):
        change = (attend(attention, moved, B, T, V) - attend(attention, x, B, T, V)).abs().view(B, T, V, 32, H, W)
        touched = torch.zeros(B, T, V, H, W, dtype=torch.bool)
        touched[reach] = True
        assert torch.equal(change.amax(3) > 1e-6, touched) and not change.amax(3)[~touched].any()


def test_every_input_reaches_the_video_and_batch_items_do_not_mix():
    """Catches a disconnected input, and a norm or an attention over the batch: an item's video must depend on its own
    current frame, noise, level and prompt, and on nothing of its neighbours.
    """
    p = policy().eval()
    torch.manual_seed(1)
    x, current, levels = torch.randn(2, 3, 2, 3, 16, 16), torch.randn(2, 2, 3, 16, 16), torch.tensor([1.0, 2.0])
    no = torch.zeros(2, dtype=torch.bool)
    with torch.no_grad():
        prompt, other = (p.encode_prompts([f"{verb} the drawer"] * 2, no) for verb in ("open", "close"))
        none = p.encode_prompts(["open the drawer"] * 2, ~no)
        base, maps = p.denoise_video(x, levels, current, prompt)
        inputs = (x, levels, current, prompt)
        for i, change in ((0, x + 0.1), (1, levels * 1.5), (2, current + 0.1), (3, other), (3, none)):
            changed = [torch.cat([old[:1], change[1:]]) if i == j else old for j, old in enumerate(inputs)]
            video, features = p.denoise_video(*changed)  # the second item has another input, the first one does not
            assert (video[1] - base[1]).abs().max() > 1e-4, i
            assert torch.allclose(video[0], base[0], atol=1e-5), i
            assert all(torch.allclose(a[0], b[0], atol=1e-5) for a, b in zip(features, maps, strict=True)), i


def test_words_and_unknown_words():
    """Catches a tokenizer that confuses words, ignores order or is silent about words it never saw or cut off."""
    with warnings.catch_warnings(action="error"):
        known = tokenize(["Close the drawer!", "the drawer close"], VOCAB, 4)
    assert known.tolist() == [[2, 5, 3, PAD], [5, 3, 2, PAD]]
    with pytest.warns(UserWarning, match="fridge"), pytest.warns(UserWarning, match="first 3 words"):
        assert tokenize(["open the fridge door"], VOCAB, 3)[0, 2] == UNKNOWN
    assert words("कि! की, Cafe\u0301") == ["कि", "की", "caf\u00e9"]  # two words of Hindi, one way to write an accent


@pytest.mark.parametrize(("changes", "mention"), [
    ({"frames": to_float(batch().current)}, "frames are float32; uint8 0..255 is needed"),
    ({"frames": batch().current[0]}, r"frames \(2, 3, 16, 16\): for 3 prompts this policy needs \(3, 2, 3, 16, 16\)"),
    ({"prompts": "close it"}, "'close it': a list of strings"), ({"prompts": ["drawer"]}, r"needs \(1, 2"),
    ({"rng": 0}, "rng 0: a torch.Generator on cpu"), ({"steps": 0.5}, "0.5 denoising steps: a whole number"),
    ({"steps": -1}, "-1 denoising"),
])  # fmt: skip
def test_what_cannot_be_decided_on_is_refused(changes, mention):
    """Catches a decision that is made at random: on frames that are floats, on one prompt for all, in no steps."""
    call = {"frames": batch().current.numpy(), "prompts": batch().prompts, "rng": generator(), "steps": 1} | changes
    for decide in (policy().act, policy().imagine):
        with pytest.raises(ValueError, match=f"^.*{mention}.*$"):
            decide(*call.values())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_loss_and_gradients_of_each_target(prediction):
    """Catches a prediction target that does not train: finite losses of one and the same pass, and a gradient in every
    weight.
    """
    p = policy(config=dataclasses.replace(CONFIG, prediction=prediction, prompt_dropout=0.5))
    b, noise = batch(), noise_of(p, seed=3)
    video, features = p.video_loss(b, noise)
    assert all(map(torch.equal, features, p.features(b, noise)))
    action = p.action_loss(b, noise, features)
    (video + action).backward()
    assert torch.isfinite(video) and torch.isfinite(action)
    for name, weight in p.named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
        assert name == "prompt_encoder.word.weight" or weight.grad.abs().sum() > 0, name


def test_the_action_loss_is_over_the_right_actions():
    """Catches training on the zeros past a demo's end or on made-up actions of action-free video, and a chunk that is
    denoised with the features or the noise of another.
    """
    p, b = policy(), batch()
    noise = noise_of(p, seed=3, samples=4)
    features, every = p.features(b, noise), []
    b.pad[0, 2:] = b.pad[2] = True
    loss = p.action_loss(b, noise, features)
    b.actions[0, 2:] += 100.0
    b.actions[2] -= 50.0
    assert torch.equal(p.action_loss(b, noise, features), loss)
    for r in range(4):  # the loss is the mean over the noise samples
        one = {name: getattr(noise, name)[:, r : r + 1] for name in ("action", "action_sigma", "dropout")}
        every.append(p.action_loss(b, dataclasses.replace(noise, **one), features).item())
    assert loss.item() == pytest.approx(np.mean(every), rel=1e-5) and len(set(every)) == 4
    b.actions[1, 0] += 1.0
    assert not torch.equal(p.action_loss(b, noise, features), loss)
    b.pad[:] = True  # nor do the zeros in their place count
    assert p.action_loss(b, noise, features) == 0


@pytest.mark.parametrize("video_steps", [0, 1, 3])
def test_a_decision(video_steps):
    """Catches a decision that costs more passes than it says or reads another noise level, depends on an ambient
    generator, ignores the current frame, the prompt or guidance, or is not imagine and decode_actions.
    """
    p, b, levels = policy().eval(), batch(), []
    p.generator.register_forward_hook(lambda _, inputs, __: levels.append(float(4 * inputs[2][0])))  # c_noise

    def act(frames=b.current, prompts=b.prompts, **more):
        return p.act(frames, prompts, generator(5), video_steps, **more)

    chunk, video = act()
    assert len(levels) == video_steps + 1
    assert torch.allclose(torch.tensor(levels).exp(), schedule(video_steps + 1, 0.05, 20.0), rtol=1e-4)
    assert chunk.shape == (3, 5, 4) and video.shape == (3, 3, 2, 3, 16, 16) and video.dtype == torch.uint8
    torch.manual_seed(9)
    assert torch.equal(chunk, act()[0])
    assert not any(torch.equal(chunk, act(*other)[0]) for other in ((255 - b.current,), (b.current, b.prompts[::-1])))
    assert video_steps == 0 or not torch.equal(video, act(guidance=3.0)[1])
    rng = generator(5)
    again, maps = p.imagine(b.current, b.prompts, rng, video_steps + 1)
    assert torch.equal(again, video) and torch.equal(p.decode_actions(maps, rng), chunk)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_units_of_pixels_and_actions(prediction):
    """Catches a decision or a video left in the units of the network, a scaling that is not undone, and a division by
    a range of zero (a gripper that stays closed in every demo).
    """
    p, b = policy(config=dataclasses.replace(CONFIG, prediction=prediction)).eval(), batch()
    current, future = to_float(b.current), to_float(b.future)
    assert torch.equal(to_uint8(p.unnormalize_video(p.normalize_video(future, current), current)), b.future)
    assert torch.allclose(p.unnormalize_actions(p.normalize_actions(b.actions)), b.actions, atol=1e-6)
    p.action_low[2] = p.action_high[2] = 0.5
    assert torch.isfinite(p.normalize_actions(b.actions)).all()
    chunk, _ = p.act(b.current, b.prompts, generator())
    assert (chunk >= p.action_low - 1e-5).all() and (chunk <= p.action_high + 1e-5).all()
    assert torch.allclose(chunk[..., 2], torch.tensor(0.5))


def test_save_and_load_decide_alike(tmp_path):
    """Catches anything that acting needs and the checkpoint lacks, a half-precision file that rounds the statistics or
    is not smaller, and files left beside it.
    """
    p, b = policy().eval(), batch()
    p.action_high += 0.123456
    p.save(tmp_path / "policy.pt")
    q = VideoPolicy.load(tmp_path / "policy.pt")
    assert q.config == p.config and q.vocab == p.vocab and not q.training
    chunk = p.act(b.current, b.prompts, generator(2))[0]
    assert torch.equal(chunk, q.act(b.current, b.prompts, generator(2))[0])
    p.save(tmp_path / "half.pt", half=True)
    h = VideoPolicy.load(tmp_path / "half.pt")
    assert torch.equal(h.action_high, p.action_high) and {w.dtype for w in h.state_dict().values()} == {torch.float32}
    assert torch.allclose(chunk, h.act(b.current, b.prompts, generator(2))[0], atol=0.02)
    assert all(torch.equal(w.half().float(), v) for w, v in zip(p.parameters(), h.parameters(), strict=True))
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "policy.pt").stat().st_size
    assert sorted(f.name for f in tmp_path.iterdir()) == ["half.pt", "policy.pt"]


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, capsys):
    """Catches a traceback, a policy with half of its weights, or code that runs, from a file that is missing, cut,
    foreign, or does not fit its own config.
    """
    path, code = tmp_path / "policy.pt", type("Code", (), {"__reduce__": lambda self: (print, ("code ran",))})()
    with pytest.raises(InputError, match="policy.pt: no such file"):
        VideoPolicy.load(path)
    policy().save(path)
    data, held = path.read_bytes(), torch.load(path, weights_only=True)
    config, nan = held["config"], {"action_high": torch.full((4,), torch.nan)}
    kinds = {"holding code": {"vocab": code}, "video-policy-1": {"format": "video-policy-1"}, "vocab": {"vocab": None},
             "size mismatch": {"config": config | {"embed": 32}}, "depth": {"config": config | {"depth": 3}},
             "image_size": {"config": config | {"image_size": 33}}, "NaN": {"weights": held["weights"] | nan},
             "damaged": data[:9000], "is damaged": data[:9000] + bytes([data[9000] ^ 1]) + data[9001:],
             "holding": b"", "so not loaded": b"not a checkpoint"}  # fmt: skip
    for mention, damage in kinds.items():
        path.write_bytes(damage) if isinstance(damage, bytes) else torch.save(held | damage, path)
        with pytest.raises(InputError) as caught:
            VideoPolicy.load(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and mention in message and "\n" not in message, mention
    assert not capsys.readouterr().out


def test_the_estimator_learns_to_see_a_hand():
    """Catches an estimator that does not learn where things are: mixed up axes, frames or views, a wrong unit."""
    rng, clips = np.random.default_rng(0), []
    for _ in range(8):
        where = np.clip(np.cumsum(rng.normal(size=(60, 2)), axis=0) + 14, 0, 28).astype(int)
        frames, poses = rng.integers(60, size=(60, 2, 3, 32, 32), dtype=np.uint8), np.zeros((60, 10))
        poses[:, [0, 2]], poses[:, 3], poses[:, 7] = 0.02 * where + (0.1, 0.5), 1, 1
        for frame, (x, z) in zip(frames, where, strict=True):
            frame[:, :, z : z + 4, x : x + 4] = 255
        clips.append(Clip(frames, None, "", "Play", poses))
    windows, errors = PoseWindows(clips[:7], CONFIG, OFFSETS, ["left", "right"]), []
    how = train.TrainConfig(estimator_steps=160, estimator_batch=16, precision="fp32")
    estimator = make_estimator(windows, 0)
    for rows in ((), train.train_pose_estimator(estimator, windows, how, TrainState())):
        list(rows)
        errors.append(np.median(pose_errors(estimate(estimator, clips[7].frames), clips[7].poses)[0]))
    assert errors[1] < 0.03 < errors[0], errors


def test_a_place_outside_of_the_labels_can_be_reached(monkeypatch):
    """Catches poses that are clamped to the range of the labels, a range that a few wild values stretch, and axes that
    are scaled by different numbers, which would bend directions.
    """
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 10)) * ([0.1, 0.3, 0.05] + [1] * 7)
    low, high = pose_range(actions)
    wild = np.concatenate([actions, np.full((5, 10), 50.0)])
    assert np.allclose(pose_range(wild), (low, high), atol=0.02) and np.ptp((high - low)[:3]) < 1e-9
    saturated = np.sign(actions) * (np.abs(actions) > 0.95 * np.abs(actions).max(0))  # commands: 5 % are at an end
    assert np.array_equal(command_range(saturated), (saturated.min(0), saturated.max(0)))
    assert np.allclose(command_range(wild), (actions.min(0), actions.max(0)), rtol=0.3)
    assert 0.25 < high[0] < 0.35 and np.array_equal(high[3:], np.ones(7)) and np.array_equal(low[3:], -np.ones(7))
    far, stats = torch.full((1, 5, 10), 2.0), {"video_std": 0.3, "action_low": low, "action_high": high}
    for space, reached in (("pose", True), ("delta", False)):
        p = policy(config=dataclasses.replace(CONFIG, action_space=space, action_size=10), stats=stats).eval()
        assert torch.allclose(p.unnormalize_actions(p.normalize_actions(far)), far, atol=1e-5)
        monkeypatch.setattr(p, "denoise_actions", lambda x, *_, p=p: p.normalize_actions(far).expand_as(x))
        maps = [torch.zeros(1, *shape) for shape in p.generator.feature_shapes]
        assert torch.allclose(p.decode_actions(maps, generator()), far, atol=1e-4) == reached


def test_one_glitch_is_not_all_that_a_batch_teaches():
    """Catches a wild action in a window or among the held-out ones that outweighs all the others."""
    p, b, numbers = policy().eval(), batch(1), []
    for glitch in (0.0, 1e6):
        b.actions[0, 0, 0] = glitch
        window = {name: value[0] for name, value in vars(b).items() if name not in ("prompts", "features")}
        error = held_out_measures(p, [window | {"prompt": "open"}])[0]["action_error"]
        numbers.append((p.action_loss(b, noise_of(p, 1), p.features(b, noise_of(p, 1))).item(), error))
    (loss, error), (loss_with, error_with) = numbers
    assert loss < loss_with < 3 * loss and error < error_with < error + 1 / 20  # it is one of 20 numbers


def test_a_policy_of_before_acts_by_deltas(tmp_path):
    """Catches commands that are executed as poses, since a file does not say what its actions are."""
    policy().save(tmp_path / "policy.pt")
    found = load_tensors(tmp_path / "policy.pt", {})
    del found["config"]["action_space"], found["config"]["pose_lead"], found["config"]["drawn_size"]
    save_tensors(found, tmp_path / "policy.pt")
    config = VideoPolicy.load(tmp_path / "policy.pt").config
    assert (config.action_space, config.drawn_size) == ("delta", 0)
