"""The simulator layer: seeds, frames, goals, experts, shifts, and what it says when it cannot run."""

import json
import subprocess
import sys

import numpy as np
import pytest
from common import ROOT

from sim import SimError, backend
from sim.task import SHIFTS, Scene
from sim.tasks import TASKS

env_module = pytest.importorskip("sim.env", reason="no simulator", exc_type=SimError)
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


def play(env, seed, shift="none", steps=8):
    """States and frames of the first steps of the expert with noise, one after the other."""
    env.reset(seed, shift)
    rng = np.random.default_rng(0)
    record = [env.state(), env.observe()]
    for _, action in zip(range(steps), expert(env), strict=False):
        env.step(action + 0.1 * rng.standard_normal(7))
        record += [env.state(), env.observe(), *env.proprio().values()]
    return record


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_same_seed_same_episode(env):
    """Catches anything of an earlier episode (controller, solver, colours) leaking into the next."""
    first = play(env, seed=3)
    play(env, seed=4, shift="all", steps=25)
    assert same(first, play(env, seed=3))
    fresh = TaskEnv(env.task, cameras=CAMERAS)
    assert same(first, play(fresh, seed=3))
    fresh.close()


def test_different_seeds_differ(env):
    """Catches a generator that ignores its seed, for the scene, the arm or the background."""
    env.reset(1)
    arm, scene, frame = env.proprio()["robot0_joint_pos"], env._scene, env.observe()
    env.reset(2)
    assert not np.array_equal(arm, env.proprio()["robot0_joint_pos"])
    assert scene != env._scene
    assert not np.array_equal(frame, env.observe())


def test_frames(env):
    """Catches frames of a wrong type, order or layout, or black."""
    env.reset(0)
    frames = env.observe()
    assert frames.shape == (len(CAMERAS), 3, 64, 64) and frames.dtype == np.uint8
    assert frames.flags.c_contiguous
    assert np.array_equal(frames[0].transpose(1, 2, 0), env.render_view(CAMERAS[0], 64))
    assert (frames.reshape(len(CAMERAS), -1).std(1) > 5).all()


def test_frames_are_upright(drawer_env):
    """Catches a missing or doubled flip: the hand is seen higher in the picture when it is higher."""
    drawer_env.reset(0)
    before = drawer_env.render_view("front", 96).astype(int)
    rows = []
    for lift in (1.0, -1.0):
        drawer_env.reset(0)
        for _ in range(12):
            drawer_env.step(np.array([0, 0, lift, 0, 0, 0, -1.0]))
        changed = np.abs(drawer_env.render_view("front", 96) - before).sum(2) > 60
        # what is dark now and was not before is the hand's new place
        dark = changed & (drawer_env.render_view("front", 96).astype(int).sum(2) < 250)
        rows.append(np.nonzero(dark)[0].mean())
    assert rows[0] < rows[1]


def test_cameras_and_sizes(drawer_env):
    """Catches views in the order of the model instead of the caller's, and a size that is not honoured."""
    drawer_env.reset(0)
    frames = drawer_env.observe()
    assert frames.shape == (2, 3, 48, 48)
    assert np.array_equal(frames[1].transpose(1, 2, 0), drawer_env.render_view("front", 48))
    assert drawer_env.render_view("wrist", 160).shape == (160, 160, 3)
    assert np.array_equal(frames, drawer_env.observe())  # another size in between changes nothing


def test_anti_aliased(drawer_env):
    """Catches a frame buffer without multisampling: ours must come closer to a large picture, shrunk."""
    drawer_env.reset(0)
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


def test_rendering_leaves_physics_alone(env):
    """Catches a policy whose episode depends on whether a video is being made."""
    trajectories = []
    for looking in (False, True):
        env.reset(5)
        for _, action in zip(range(30), expert(env), strict=False):
            env.step(action)
            if looking:
                env.observe()
        trajectories.append(env.state())
    assert np.array_equal(*trajectories)


def test_success_is_pure_and_false_at_reset(env):
    """Catches an episode that is won before it starts, and a goal that counts or writes when asked."""
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
    wins = []
    for _ in range(HOLD + 1):
        drawer_env.step(IDLE)
        wins.append(drawer_env.success())
    assert wins == [False] * (HOLD - 1) + [True, True]


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
    """Catches a choice that can be ignored: an expert that is told the other one must fail, told this one succeed."""
    scenes = [env.task.build(np.random.default_rng(seed), "none") for seed in range(400)]
    for choice in env.task.choices:
        share = np.mean([scene.choice == choice for scene in scenes])
        assert abs(share - 1 / len(env.task.choices)) < 0.1
    if not env.task.choices:
        assert "{" not in env.task.prompt and not any(scene.choice for scene in scenes)
        return
    for seed in range(4):
        for misled in (False, True):
            env.reset(seed)
            right = env.view.choice
            assert right in env.prompt
            told = next(c for c in env.task.choices if c != right) if misled else right
            env.view.choice = told
            for action, _ in zip(expert(env), range(env.task.horizon), strict=False):
                env.view.choice = right  # what counts
                env.step(action)
                env.view.choice = told
                if env.success():
                    break
            assert env.success() != misled


@pytest.mark.parametrize("shift", SHIFTS)
def test_shifts_change_what_they_say(env, shift):
    """Catches a shift that changes nothing, or more than it names: scenes stay paired seed by seed."""
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


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_colours_all_that_it_shows(name):
    """Catches a material that a scene's palettes forget: it would keep the simulator's grey under every shift."""
    parts = [part for fixture in TASKS[name].fixtures() for part in fixture.iter("body")]
    for shift in SHIFTS:
        scene = TASKS[name].build(np.random.default_rng(7), shift)
        shown = [part for part in parts if part.get("name") not in scene.disabled_bodies]
        assert {geom.get("material") for part in shown for geom in part.findall("geom")} <= set(scene.color)


def on_table(scene):
    """Where what is loose starts, for what does not stand in or on a fixture and follows that."""
    return [placement for placement in scene.loose.values() if placement.on == "table"]


def test_shifts_are_disjoint(env):
    """Catches an evaluation scene that training could have drawn."""

    def draws(shift):
        scenes = [env.task.build(np.random.default_rng(seed), shift) for seed in range(200)]
        return scenes, [sample_background(np.random.default_rng(seed), shift) for seed in range(200)]

    (seen, seen_rooms), (unseen, unseen_rooms) = draws("none"), draws("all")
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


def test_env_args_follow_robomimic(drawer_env):
    """Catches a file that robomimic's loader refuses: it reads these four fields."""
    args = drawer_env.env_args()
    assert set(args) == {"env_name", "type", "env_version", "env_kwargs"} and args["type"] == 1
    shapes = {name: value.shape for name, value in drawer_env.proprio().items()}
    arm = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_joint_pos": (7,)}
    assert shapes == arm | {"robot0_gripper_qpos": (2,)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(task="Fly"), "CloseDrawer"),
        (dict(task="CloseDrawer", cameras=("front", "back")), "wrist"),
        (dict(task="CloseDrawer", cameras=()), "front"),
        (dict(task="CloseDrawer", size=50), "multiple of 16"),
        (dict(task="CloseDrawer", size=0), "multiple of 16"),
    ],
)
def test_bad_arguments(arguments, words):
    """Catches a bad name or size that is only noticed deep inside the simulator."""
    with pytest.raises(ValueError, match=words):
        TaskEnv(**arguments)


def test_bad_calls(drawer_env):
    """Catches NaN or misshapen actions reaching the physics, and unknown shifts passing for none."""
    drawer_env.reset(0)
    for action in (np.full(7, np.nan), np.zeros(6), np.zeros((1, 7))):
        with pytest.raises(ValueError, match="7 finite"):
            drawer_env.step(action)
    with pytest.raises(ValueError, match="unknown shift"):
        drawer_env.reset(0, "weather")
    before = drawer_env.view.hand.pos
    drawer_env.step(np.array([0, 0, 100.0, 0, 0, 0, 0]))
    assert np.linalg.norm(drawer_env.view.hand.pos - before) < 0.05  # clipped


@pytest.mark.parametrize(("version", "good"), [("3.6.0", True), ("3.2.7", False), ("3.10.0", False)])
def test_mujoco_version(version, good):
    """Catches a mujoco that robosuite breaks on with an unrelated error; 3.10 comes after 3.9."""
    if good:
        return backend.check_version(version)
    with pytest.raises(SimError, match="pip install mujoco==3.6.0"):
        backend.check_version(version)


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def test_tasks_need_no_simulator():
    """Catches an import that keeps train.py off machines without mujoco or OpenGL."""
    heavy = "{'mujoco', 'robosuite', 'torch', 'OpenGL'}"
    code = f"import sys, sim.tasks; print(sorted({heavy} & set(sys.modules)))"
    assert run("-c", code).stdout.strip() == "[]"


def test_command_lines():
    """Catches a traceback, or silence, where a person expects a table or one line."""
    table = run("-m", "sim.tasks")
    assert table.returncode == 0 and all(name in table.stdout for name in TASKS)
    unknown = run("-m", "sim.tasks", "--check", "--tasks", "Fly")
    assert unknown.returncode == 2 and unknown.stderr.count("\n") == 1 and "Fly" in unknown.stderr
    gl = run("-m", "sim.env")
    assert gl.returncode == 0 and gl.stdout.count("\n") == 1


def test_scene_is_plain_data(env):
    """Catches numpy scalars or arrays in a Scene, which would not compare or print as plain numbers."""
    scene = env.task.build(np.random.default_rng(0), "none")
    assert isinstance(scene, Scene)
    assert all(type(x) is float for pose in scene.pose.values() for x in pose)
    assert all(type(x) is float for rgb in scene.color.values() for x in rgb)


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "least"), [("none", 36), ("all", 34)])
def test_expert_rate(env, shift, least):
    """Catches an expert that works on some scenes only: 90 % of 40 fresh ones, 85 % under a shift, with noise."""
    wins = sum(run_expert(env, seed=250_000_000 + i, shift=shift, noise=0.1)[0] for i in range(40))
    assert wins >= least


def test_bench_counts_what_recording_gives():
    """Catches a benchmark that fell behind the recorder. In a process of its own: where robosuite has drawn, its exit
    takes the display away from our renderers, too.
    """
    code = "import json; from tools import bench; print(json.dumps(bench.simulator(demos=1)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    numbers = json.loads(done.stdout.splitlines()[-1])
    assert numbers["demos_per_minute_one_process"] > 1 and numbers["control_steps_with_frame_per_second"] > 10
