"""TaskEnv: one task on robosuite; an episode is a function of its seed.

    env = TaskEnv("CloseDrawer")
    env.reset(seed=0)
    for action in expert(env):
        frames = env.observe()          # (V, 3, H, W) uint8
        env.step(action)                # (7,) in [-1, 1], or (10,) a hand pose: one control step of 1/20 s
    env.success()
"""

import xml.etree.ElementTree as ET

import numpy as np

from data.poses import POSE_SIZE, sixd_to_matrix
from data.robomimic import FARTHEST, RATE, resize
from sim import backend
from sim.experts import towards
from sim.mjcf import text
from sim.task import CAMERAS, Pose, Scene, State, rotation
from sim.tasks import TASKS
from util.cli import command

mujoco, robosuite = command(backend.load) if __name__ == "__main__" else backend.load()  # one line, no traceback

from robosuite.environments.manipulation.manipulation_env import ManipulationEnv  # noqa: E402
from robosuite.models.arenas import TableArena  # noqa: E402
from robosuite.models.tasks import ManipulationTask  # noqa: E402

from sim import appearance  # noqa: E402

TIMESTEP = 0.005  # ten substeps per control step; robosuite's 2 ms takes longer, and the experts do not need it
HOLD = 5  # control steps for which a goal must hold to count as success
TABLE_TOP = 0.8  # metres above the floor
ACTION_DIM = 7
START = np.array([-0.3, 0.25, 0.0, -2.2, 0.0, 2.45, np.pi / 4 - 0.3])  # the hand down, in the front camera's view


class TaskEnv(ManipulationEnv):
    """A Panda arm at a table with one task, controlled by operational-space deltas at 20 Hz."""

    def __init__(self, task, cameras=("front",), size=64, drawn=0):
        """Build the model once; each reset edits it. ValueError for a name or a size that is not as follows.

        task: a Task or its name; cameras: names from CAMERAS; size: pixels a side, a multiple of 16; drawn: pixels a
        side at which frames are drawn before they are resized, 0: the same
        """
        if isinstance(task, str):
            if task not in TASKS:
                raise ValueError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
            task = TASKS[task]
        self.task, self.cameras, self.size, self.drawn = task, tuple(cameras), size, drawn or size
        if not self.cameras or not set(self.cameras) <= set(CAMERAS):
            raise ValueError(f"cameras {list(self.cameras)}: choose one or more of {', '.join(CAMERAS)}")
        if self.drawn <= 0 or self.drawn % 16:
            raise ValueError(f"size {self.drawn!r}: a frame's side must be a multiple of 16 pixels")
        self._renderers = {}  # size -> mujoco.Renderer
        self._scene, self._held = Scene(pose={}), 0  # _held: control steps for which the goal has held
        self._edits, self._originals = {}, {}  # what this episode changes in the model, and the values before
        super().__init__(robots="Panda", initialization_noise="default", use_camera_obs=False, renderer="mujoco",
                         has_offscreen_renderer=False, control_freq=RATE, ignore_done=True,
                         hard_reset=False)  # fmt: skip
        self._xml_processors.clear()  # robosuite's, of no more use, is a cycle: this environment would outlive its name

    def reset(self, seed, shift="none"):
        """Start the episode of a seed, the same whatever ran before; ValueError for a shift not in SHIFTS."""
        streams = np.random.SeedSequence(seed).spawn(3)  # so that a shift changes nothing else that is sampled
        scene_rng, background_rng, self.rng = (np.random.default_rng(stream) for stream in streams)
        self._scene = self.task.build(scene_rng, shift)
        self.view.choice = self._scene.choice
        self._edits = appearance.sample_background(background_rng, shift)
        self._edits |= appearance.scene_edits(self._scene, self._model, TABLE_TOP)
        self._held = 0
        super().reset()  # calls _reset_internal
        if self._scene.loose:
            self._settle()

    def step(self, action):
        """Apply one action for 1/20 s: (7,) operational-space deltas and gripper, clipped to [-1, 1]; or (10,) a hand
        pose as in data/poses.py, approached no faster than deltas allow. ValueError for what is neither.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape not in ((ACTION_DIM,), (POSE_SIZE,)) or not np.isfinite(action).all():
            raise ValueError(f"an action is {ACTION_DIM} or {POSE_SIZE} finite numbers, not {action!r}")
        if follows := len(action) == POSE_SIZE:
            if np.abs(action[:3]).max() > FARTHEST or not np.abs(action[3:6]).max() > 1e-6:
                raise ValueError(f"no place of a hand within {FARTHEST} metres and its rotation: {action.tolist()}")
            # The robot's own proprioception says where the hand is. A pose turns the hand's body, as `robot0_eef_quat`
            # does; the grip site is a quarter turn apart from it.
            body, site = self.view.body(self.robots[0].robot_model.eef_name["right"]).rot, self.view.hand.rot
            target = Pose(action[:3], sixd_to_matrix(action[3:9]) @ body.T @ site)
            action = towards(self.view, target, gripper=action[9], speed=1.0)
        # By default robosuite computes the forces that move and that turn the hand apart, though each does both: in a
        # fast turn the hand then leaves its path. Deltas keep that default, with which the experts were written.
        self.robots[0].part_controllers["right"].uncoupling = not follows
        result = super().step(np.clip(action, -1, 1))
        for refresh in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            refresh(self._model, self._data)  # after a step these quantities lag the joints by a substep
        self._held = self._held + 1 if self.task.goal(self.view) else 0
        return result

    def success(self):
        """Whether the goal has held for HOLD control steps."""
        return self._held >= HOLD

    def ended(self):
        """Whether the episode is over: success, or as many control steps as the task allows."""
        return self.success() or self.timestep >= self.task.horizon

    @property
    def prompt(self):
        """The prompt of this episode."""
        return self.task.prompt.format(choice=self._scene.choice)

    @property
    def other_prompts(self):
        """The prompts of the task's other choices."""
        return [self.task.prompt.format(choice=c) for c in self.task.choices if c != self._scene.choice]

    def things(self):
        """Positions of this episode's fixtures and objects: a list of (3,), metres in the world."""
        return [self.view.body(name).pos for name in (*self._scene.pose, *self._scene.loose)]

    def observe(self):
        """Render the cameras: uint8 (V, 3, H, W), upright; the physics does not change."""
        frames = resize(np.stack([self.render_view(camera, self.drawn) for camera in self.cameras]), self.size)
        return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))

    def render_view(self, camera, size):
        """One picture of any size from any of CAMERAS: uint8 (size, size, 3)."""
        if size not in self._renderers:
            self._renderers[size] = backend.make_renderer(self._model, size)
        self._renderers[size].update_scene(self._data, camera, self._draw_options)
        return self._renderers[size].render()

    def proprio(self):
        """Proprioception, float64, by robomimic's names: metres, xyzw quaternion, radians."""
        data, robot = self.sim.data, self.robots[0]
        w, x, y, z = data.get_body_xquat(robot.robot_model.eef_name["right"])
        return {
            "robot0_eef_pos": self.view.hand.pos,
            "robot0_eef_quat": np.array([x, y, z, w]),
            "robot0_gripper_qpos": np.array(data.qpos[robot._ref_gripper_joint_pos_indexes["right"]]),
            "robot0_joint_pos": np.array(data.qpos[robot._ref_joint_pos_indexes]),
        }

    def state(self):
        """The simulator's state, flat float64: time, positions, velocities."""
        return self.sim.get_state().flatten()

    def set_state(self, flat):
        """Put the simulator into a `state` of an episode of the same seed and shift."""
        if np.shape(flat) != (want := self.state().shape):
            raise ValueError(f"a state of {self.task.name} has shape {want}, not {np.shape(flat)}")
        self.sim.set_state_from_flattened(np.asarray(flat, dtype=np.float64))
        self._data.qacc_warmstart[:] = 0  # the solver would start from another state's solution
        self.sim.forward()
        self._held = 0

    def model_xml(self):
        """This episode's MuJoCo model, as robomimic stores it in `model_file`."""
        root = ET.fromstring(self._xml)
        for (kind, name, attribute), value in self._edits.items():
            value = value if isinstance(value, str) else text(np.atleast_1d(value))
            root.find(f".//{kind}[@name='{name}']").set(attribute, value)
        return ET.tostring(root, encoding="unicode")

    def env_args(self):
        """What robomimic stores in `env_args`: name, type (1 is robosuite), version and arguments."""
        kwargs = {"task": self.task.name, "cameras": list(self.cameras), "size": self.size}
        return {"env_name": "TaskEnv", "type": 1, "env_version": robosuite.__version__, "env_kwargs": kwargs}

    # ---- what robosuite asks of an environment -------------------------------------------------------------

    def _load_model(self):
        super()._load_model()
        robot, table = self.robots[0].robot_model, (0.8, 0.8, 0.05)
        robot.set_base_xpos(robot.base_xpos_offset["table"](table[0]))
        self.robots[0].init_qpos = START
        arena = TableArena(table_full_size=table, table_offset=(0, 0, TABLE_TOP))
        arena.set_origin([0, 0, 0])
        self.model = ManipulationTask(arena, [robot])
        for fixture in self.task.fixtures():
            self.model.worldbody.append(fixture)
            self.model.asset.extend(appearance.materials(fixture))

    def edit_model_xml(self, xml_str):
        """Add our cameras, materials and time step, and make the model quick to render."""
        root = ET.fromstring(super().edit_model_xml(xml_str))
        root.find("option").set("timestep", str(TIMESTEP))
        appearance.strip_visuals(root)
        appearance.add_cameras(root)
        self._xml = ET.tostring(root, encoding="unicode")
        return self._xml

    def _initialize_sim(self, xml_string=None):
        super()._initialize_sim(xml_string)
        self.model_timestep = TIMESTEP  # instead of robosuite's global one
        self._model, self._data = self.sim.model._model, self.sim.data._data
        self.view = State(self._model, self._data)
        self._draw_options = mujoco.MjvOption()
        self._draw_options.geomgroup[:] = 1, 1, 0, 0, 0, 0
        self._draw_options.sitegroup[:] = 0

    def _setup_observables(self):
        return {}  # robosuite would compute each at every substep; `observe` and `proprio` do so on request

    def _reset_internal(self):
        # Before robosuite's part, which starts the solver: it must start in this episode's scene.
        model, data, live_field = self._model, self._data, appearance.live_field
        for field, value in self._originals.items():
            live_field(model, *field)[:] = value
        self._originals = {field: live_field(model, *field).copy() for field in self._edits}
        for field, value in self._edits.items():
            live_field(model, *field)[:] = model.material(value).id if field[2] == "material" else value
        for joint, fraction in self._scene.joint.items():
            low, high = model.joint(joint).range
            data.joint(joint).qpos[0] = low + fraction * (high - low)
        mujoco.mj_kinematics(model, data)  # a loose object starts on a fixture that has just moved
        for name, placement in self._scene.loose.items():
            data.joint(f"{name}_free").qpos[:] = self._start_of(placement)
        super()._reset_internal()

    def _start_of(self, at):
        """Position and quaternion of a placement in the world, (7,)."""
        frame = Pose(np.array([0, 0, TABLE_TOP]), np.eye(3)) if at.on == "table" else self.view.site(at.on)
        rot = frame.rot @ rotation([0, 0, at.yaw]) @ rotation([at.roll, 0, 0])
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, rot.ravel())
        return np.concatenate([frame.pos + frame.rot @ (at.x, at.y, at.z), quat])

    def _settle(self):
        """Let loose objects come to rest for 80 simulation steps, while the arm keeps its place."""
        model, data = self._model, self._data
        joints = [model.joint(f"{name}_free") for name in self._scene.loose]
        places = np.concatenate([joint.qposadr + np.arange(7) for joint in joints])
        speeds = np.concatenate([joint.dofadr + np.arange(6) for joint in joints])
        start = data.qpos.copy()
        for _ in range(80):
            mujoco.mj_step(model, data)
            place, speed = data.qpos[places], data.qvel[speeds]
            data.qpos[:], data.qvel[:] = start, 0
            data.qpos[places], data.qvel[speeds] = place, speed
        data.qvel[:], data.qacc_warmstart[:], data.time = 0, 0, 0
        mujoco.mj_forward(model, data)

    def reward(self, action=None):  # robosuite's step calls it
        return float(self._check_success())

    def _check_success(self):  # robomimic's loader calls it
        return self.task.goal(self.view)


def main():
    """Render one small frame and print the name of the OpenGL renderer."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    with backend.make_renderer(model, 16) as renderer:
        renderer.update_scene(mujoco.MjData(model))
        renderer.render()
        from OpenGL import GL

        print(f"offscreen OpenGL works: {backend.choose_gl()}, {GL.glGetString(GL.GL_RENDERER).decode()}")


if __name__ == "__main__":
    command(main)
