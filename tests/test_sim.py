"""The simulator layer: seeds, frames, goals, experts, shifts, and its messages where it cannot run."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim import backend
from sim.task import SHIFTS, Scene
from sim.tasks import TASKS
from util.files import InputError

env_module = pytest.importorskip("sim.env", reason="no simulator", exc_type=InputError)
from sim.appearance import sample_background  # noqa: E402
from sim.env import CAMERAS, HOLD, TaskEnv  # noqa: E402
from sim.experts import expert, run_expert  # noqa: E402

IDLE = np.array([0, 0, 0, 0, 0, 0, -1.0])
SEEDS = range(20)


@pytest.fixture(scope="module", params=list(TASKS))
def env(request):
    """One environment per task, used by all of its tests: they must not depend on what ran before."""
    env = TaskEnv(request.param, cameras=CAMERAS)
    yield env
    env.close()


@pytest.fixture(scope="module")
def drawer_env():
    env = TaskEnv("CloseDrawer", cameras=("side", "front"), size=48)
    yield env
    env.close()


def play(env, seed, shift="none", steps=8, rendered=True):
    """States and frames of the first steps of the expert with noise, one after the other."""
    env.reset(seed, shift)
    rng = np.random.default_rng(0)
    record = [env.state(), env.observe()]
    for _, action in zip(range(steps), expert(env), strict=False):
        env.step(action + 0.1 * rng.standard_normal(7))
        record += [env.state(), env.observe(), *env.proprio().values()] if rendered else []
    return [*record, env.state()]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_same_seed_same_episode(env):
    """Catches anything of an earlier episode (controller, solver, colours) that leaks into the next, a seed that is
    ignored for scene, arm or background, and physics that depend on rendering.
    """
    first, scene = play(env, seed=3), env._scene
    other = play(env, seed=4, shift="all", steps=25)
    assert scene != env._scene and not np.array_equal(first[1], other[1])
    assert same(first, play(env, seed=3))
    assert np.array_equal(first[-1], play(env, seed=3, rendered=False)[-1])
    fresh = TaskEnv(env.task, cameras=CAMERAS)
    assert same(first, play(fresh, seed=3))
    arm = fresh.proprio()["robot0_joint_pos"]
    fresh.reset(5)
    assert not np.array_equal(arm, fresh.proprio()["robot0_joint_pos"])
    fresh.close()


def test_frames(env):
    """Catches frames of a wrong type, order or layout, or black."""
    env.reset(0)
    frames = env.observe()
    assert frames.shape == (len(CAMERAS), 3, 64, 64) and frames.dtype == np.uint8
    assert frames.flags.c_contiguous
    assert np.array_equal(frames[0].transpose(1, 2, 0), env.render_view(CAMERAS[0], 64))
    assert (frames.reshape(len(CAMERAS), -1).std(1) > 5).all()


def test_frames_are_upright(drawer_env):
    """Catches a missing or doubled flip: the hand appears higher in the picture when it is higher."""
    drawer_env.reset(0)
    before = drawer_env.render_view("front", 96).astype(int)
    rows = []
    for lift in (1.0, -1.0):
        drawer_env.reset(0)
        for _ in range(12):
            drawer_env.step(np.array([0, 0, lift, 0, 0, 0, -1.0]))
        after = drawer_env.render_view("front", 96).astype(int)
        hand = (np.abs(after - before).sum(2) > 60) & (after.sum(2) < 250)  # dark now, and not before
        rows.append(np.nonzero(hand)[0].mean())
    assert rows[0] < rows[1]


def test_cameras_and_sizes(drawer_env):
    """Catches views in the order of the model instead of the caller's, a size that is ignored, and a frame buffer
    without multisampling: ours must come closer to a large picture, shrunk.
    """
    drawer_env.reset(0)
    frames = drawer_env.observe()
    assert frames.shape == (2, 3, 48, 48)
    assert np.array_equal(frames[1].transpose(1, 2, 0), drawer_env.render_view("front", 48))
    assert drawer_env.render_view("wrist", 160).shape == (160, 160, 3)
    assert np.array_equal(frames, drawer_env.observe())  # another size in between changes nothing

    model, data = drawer_env.sim.model._model, drawer_env.sim.data._data
    large = drawer_env.render_view("front", 512).reshape(64, 8, 64, 8, 3).mean((1, 3))
    ours = drawer_env.render_view("front", 64)
    samples, model.vis.quality.offsamples = model.vis.quality.offsamples, 0
    jagged = backend.make_renderer(model, 64)
    jagged.update_scene(data, "front", drawer_env._draw_options)
    error = [np.square(frame - large).mean() for frame in (ours, jagged.render())]
    jagged.close()
    model.vis.quality.offsamples = samples
    assert error[0] < 0.7 * error[1]


def test_success_is_pure_and_false_at_reset(env):
    """Catches an episode that succeeds before it starts, and a goal that counts or writes when asked."""
    for seed in SEEDS[:4]:
        for shift in SHIFTS:
            env.reset(seed, shift)
            assert not env.success() and not env.task.goal(env.view)
    before, held = env.state(), env._held
    answers = {(env.success(), env.task.goal(env.view)) for _ in range(HOLD + 1)}
    assert len(answers) == 1 and np.array_equal(before, env.state()) and env._held == held


def test_expert_succeeds(env):
    """Catches an expert or a fixture that broke: one full episode, with the noise of the demonstrations."""
    success, steps = run_expert(env, seed=0, noise=0.1)
    assert success and steps < env.task.horizon
    assert env.task.goal(env.view)
    env.reset(0)
    assert not env.success()  # the hold counter starts over


def test_goal_must_hold(drawer_env):
    """Catches success at a touch: the goal must hold for HOLD steps in a row."""
    drawer_env.reset(0)
    drawer_env.sim.data._data.joint("drawer_slide").qpos[0] = 0.001
    successes = []
    for _ in range(HOLD + 1):
        drawer_env.step(IDLE)
        successes.append(drawer_env.success())
    assert successes == [False] * (HOLD - 1) + [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["idle", "random"])
def test_success_needs_skill(env, arm):
    """Catches a goal that happens by itself: an idle or a random arm never meets it in 20 seeds."""
    for seed in SEEDS:
        env.reset(seed)
        rng = np.random.default_rng(seed)
        for _ in range(env.task.horizon):
            env.step(IDLE if arm == "idle" else rng.uniform(-1, 1, 7))
            assert not env.success()


def test_loose_objects_are_at_rest(env):
    """Catches an object that starts in the air or inside another, or rolls away while nothing touches it."""
    env.reset(6)
    names = list(env._scene.loose)
    before = [env.view.body(name).pos for name in names]
    for _ in range(20):
        env.step(IDLE)
    assert all(np.linalg.norm(env.view.body(n).pos - pos) < 0.005 for n, pos in zip(names, before, strict=True))


def test_the_prompt_decides(env):
    """Catches a choice that can be ignored: with the other choice an expert must fail, with the right one succeed;
    and a wrong prompt that is the right one, or one for a task whose prompt never changes.
    """
    scenes = [env.task.build(np.random.default_rng(seed), "none") for seed in range(400)]
    for choice in env.task.choices:
        share = np.mean([scene.choice == choice for scene in scenes])
        assert abs(share - 1 / len(env.task.choices)) < 0.1
    if not env.task.choices:
        env.reset(0)
        assert "{" not in env.prompt and not any(scene.choice for scene in scenes) and env.other_prompts == []
        return
    for seed in range(4):
        for misled in (False, True):
            env.reset(seed)
            right = env.view.choice
            prompts = [env.task.prompt.format(choice=choice) for choice in env.task.choices]
            assert right in env.prompt and sorted([env.prompt, *env.other_prompts]) == sorted(prompts)
            followed = next(c for c in env.task.choices if c != right) if misled else right
            env.view.choice = followed
            for action, _ in zip(expert(env), range(env.task.horizon), strict=False):
                env.view.choice = right  # what counts
                env.step(action)
                env.view.choice = followed
                if env.success():
                    break
            assert env.success() != misled


@pytest.mark.parametrize("shift", SHIFTS)
def test_shifts_change_what_they_say(env, shift):
    """Catches a shift that changes nothing, or more than it names (scenes stay paired seed by seed), and a material
    that no palette colours.
    """
    scenes = {s: env.task.build(np.random.default_rng(7), s) for s in ("none", shift)}
    backgrounds = {s: sample_background(np.random.default_rng(7), s) for s in ("none", shift)}
    moved = [scenes["none"].pose[name] != scenes[shift].pose[name] for name in scenes["none"].pose]
    moved += [a[:3] != b[:3] for a, b in zip(on_table(scenes["none"]), on_table(scenes[shift]), strict=True)]
    assert all(moved) if shift in ("location", "all") else not any(moved)
    looks = [(scenes[s].color, scenes[s].disabled_bodies) for s in ("none", shift)]
    assert (looks[0] != looks[1]) == (shift in ("objects", "all"))
    assert (backgrounds["none"] != backgrounds[shift]) == (shift in ("background", "all"))
    for field in ("joint", "choice"):
        assert getattr(scenes["none"], field) == getattr(scenes[shift], field)
    parts = [part for fixture in env.task.fixtures() for part in fixture.iter("body")]
    shown = [part for part in parts if part.get("name") not in scenes[shift].disabled_bodies]
    assert {geom.get("material") for part in shown for geom in part.findall("geom")} <= set(scenes[shift].color)


def on_table(scene):
    """Where loose objects start, except those that stand in or on a fixture and follow it."""
    return [placement for placement in scene.loose.values() if placement.on == "table"]


def test_shifts_are_disjoint(env):
    """Catches an evaluation scene that training could have drawn, and numpy scalars in a Scene."""

    def draws(shift):
        scenes = [env.task.build(np.random.default_rng(seed), shift) for seed in range(200)]
        return scenes, [sample_background(np.random.default_rng(seed), shift) for seed in range(200)]

    (seen, seen_rooms), (unseen, unseen_rooms) = draws("none"), draws("all")
    assert isinstance(seen[0], Scene)
    assert all(type(x) is float for row in (*seen[0].pose.values(), *seen[0].color.values()) for x in row)
    places = [
        [[pose[:2] for pose in scene.pose.values()] + [(p.x, p.y) for p in on_table(scene)] for scene in scenes]
        for scenes in (seen, unseen)
    ]
    apart = []
    for i in range(len(places[0][0])):
        at, elsewhere = (np.array([scene[i] for scene in scenes]) for scenes in places)
        low, high = at.min(0), at.max(0)
        apart.append(not ((elsewhere >= low) & (elsewhere <= high)).all(1).any())
    assert any(apart) and np.mean(apart) >= 0.5  # a pan stays on its stove, wherever that is
    assert {scene.disabled_bodies for scene in seen}.isdisjoint(scene.disabled_bodies for scene in unseen)
    for part in seen[0].color:
        near = [np.abs(np.subtract(a.color[part], b.color[part])).max() for a in seen for b in unseen]
        assert min(near) > 0.02
    table, light = ("geom", "table_visual", "material"), ("light", "lamp", "diffuse")
    assert {room[table] for room in seen_rooms}.isdisjoint(room[table] for room in unseen_rooms)
    lights = [room[light][0] for room in seen_rooms]
    assert not any(min(lights) <= room[light][0] <= max(lights) for room in unseen_rooms)


def test_state_and_model_are_restored(env):
    """Catches a stored demonstration that would replay in another scene than it was recorded in."""
    import mujoco

    env.reset(11, "all")
    for _, action in zip(range(10), expert(env), strict=False):
        env.step(action)
    state, frame = env.state(), env.observe()
    for _ in range(5):
        env.step(IDLE)
    env.set_state(state)
    assert np.array_equal(env.state(), state) and np.array_equal(env.observe(), frame)
    stored = mujoco.MjModel.from_xml_string(env.model_xml())
    live = env.sim.model._model
    fields = "body_pos body_quat body_mass body_inertia mat_rgba geom_contype geom_matid geom_rgba light_dir"
    for field in fields.split():
        assert np.allclose(getattr(stored, field), getattr(live, field), atol=1e-4), field
    with pytest.raises(ValueError, match="shape"):
        env.set_state(state[:-1])


def test_bad_arguments_and_calls(drawer_env):
    """Catches a bad name, size or action that is only noticed deep inside the simulator, an unknown shift that counts
    as none, and an action that is not clipped.
    """
    for arguments, words in (
        (("Fly",), "CloseDrawer"), (("CloseDrawer", ("front", "back")), "wrist"), (("CloseDrawer", ()), "front"),
        (("CloseDrawer", ("front",), 50), "multiple of 16"), (("CloseDrawer", ("front",), 0), "multiple of 16"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            TaskEnv(*arguments)
    drawer_env.reset(0)
    for action in (np.full(7, np.nan), np.zeros(6), np.zeros((1, 7))):
        with pytest.raises(ValueError, match="7 or 10 finite"):
            drawer_env.step(action)
    with pytest.raises(ValueError, match="unknown shift"):
        drawer_env.reset(0, "weather")
    before = drawer_env.view.hand.pos
    drawer_env.step(np.array([0, 0, 100.0, 0, 0, 0, 0]))
    assert np.linalg.norm(drawer_env.view.hand.pos - before) < 0.05


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no count of this process's memory")
def test_a_dropped_environment_frees_its_memory():
    """Catches a hook or a cycle that keeps environments which nobody closed: each holds hundreds of MB."""
    megabytes = []
    for _ in range(10):
        env = TaskEnv("CloseDrawer", size=16)
        env.reset(0)
        env.observe()
        del env
        megabytes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
    assert max(megabytes[1:]) < megabytes[0] + 100, megabytes


def test_it_draws_where_mujoco_was_imported_first(drawer_env):
    """Catches a script that imports mujoco before this package and then cannot draw, and errors when Python ends."""
    drawer_env.reset(0)
    script = "import robosuite; from sim.env import TaskEnv; env = TaskEnv('CloseDrawer', ('side', 'front'), 48)"
    done = run("-c", f"{script}; env.reset(0); print(env.observe().sum())", MUJOCO_GL="")
    assert done.stdout.split() == [str(drawer_env.observe().sum())] and "Traceback" not in done.stderr, done.stderr


def test_where_it_cannot_start_one_line_says_why():
    """Catches a traceback out of mujoco, robosuite or numba, and the advice to install a library that is there."""
    for variable, value, remedy in (
        ("MUJOCO_EGL_DEVICE_ID", "99", "unset it"), ("MUJOCO_EGL_DEVICE_ID", "x", "unset MUJOCO_EGL_DEVICE_ID"),
        ("PYOPENGL_PLATFORM", "glx", "unset it"), ("NUMBA_CACHE_LOCATOR_CLASSES", "IPythonCacheLocator", "set NUMBA_"),
    ):  # fmt: skip
        done = run("-m", "sim.env", **{"MUJOCO_GL": "egl", variable: value})
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("error: the simulator cannot") and f"; {remedy}" in done.stderr, done.stderr


def test_mujoco_version():
    """Catches a mujoco that robosuite breaks on with an unrelated error; 3.10 comes after 3.9."""
    backend.check_version("3.6.0")
    for version in ("3.2.7", "3.10.0"):
        with pytest.raises(InputError, match="pip install mujoco==3.6.0"):
            backend.check_version(version)


def run(*arguments, **variables):
    words = [sys.executable, *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=os.environ | variables)


def test_command_lines():
    """Catches a traceback, or silence, where a person expects a table or one line, and an import that keeps train.py
    off machines without a simulator.
    """
    table = run("-m", "sim.tasks")
    assert table.returncode == 0 and all(name in table.stdout for name in TASKS)
    unknown = run("-m", "sim.tasks", "--check", "--tasks", "Fly")
    assert unknown.returncode == 2 and unknown.stderr.count("\n") == 1 and "Fly" in unknown.stderr
    gl = run("-m", "sim.env")
    assert gl.returncode == 0 and gl.stdout.count("\n") == 1
    heavy = "{'mujoco', 'robosuite', 'torch', 'OpenGL'}"
    assert run("-c", f"import sys, sim.tasks; print(sorted({heavy} & set(sys.modules)))").stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "least"), [("none", 36), ("all", 34)])
def test_expert_rate(env, shift, least):
    """Catches an expert that works on some scenes only: 90 % of 40 fresh ones, 85 % under a shift, with noise."""
    assert sum(run_expert(env, seed=250_000_000 + i, shift=shift, noise=0.1)[0] for i in range(40)) >= least
