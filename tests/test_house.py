"""The layers of the house, and what a plain machine may lack."""

import ast
import re
import subprocess
import sys

from common import ROOT

ALLOWED = {  # who may import what of ours; sim/ is a world of its own
    "model": {"model"},
    "checkpoint.py": set(),
    "videopolicy.py": {"model", "checkpoint"},
    "dreams.py": {"sim", "videopolicy"},
    "machine.py": {"sim"},
    "runfolder.py": {"checkpoint", "sim"},
    "sim": {"sim"},
    "augment.py": {"machine"},
    "memory.py": {"augment", "machine", "videopolicy"},
    "build.py": {"model", "sim", "videopolicy"},
    "train.py": {"augment", "build", "checkpoint", "dreams", "machine", "memory", "runfolder", "sim", "videopolicy"},
}
OURS = {path.stem for path in ROOT.glob("*.py")} | {"model", "sim"}


def imports(source):
    """Top-level names of every module that some code imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_layers():
    """Catches an import that turns the layers upside down, and torch in the simulator."""
    for place, allowed in ALLOWED.items():
        files = [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py")
        for path in files:
            used = imports(path.read_text())
            assert used & OURS <= allowed, f"{path}: {used & OURS - allowed}"
            if place == "sim":
                assert "torch" not in used, path
    for name in ("train.py", "build.py"):
        nodes = [node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.ImportFrom)]
        assert {node.module for node in nodes if node.module.startswith("sim")} <= {
            "sim.cli", "sim.videos", "sim.windows",
        }  # fmt: skip


def test_training_needs_no_simulator():
    """Catches a GPU box without mujoco, robosuite or OpenGL on which train.py cannot even show its flags."""
    block = "import sys\nfor name in ('mujoco', 'robosuite', 'OpenGL', 'cv2'): sys.modules[name] = None\n"
    run = "import train\ntry: train.main(['-h'])\nexcept SystemExit as end: sys.exit(end.code)"
    done = subprocess.run([sys.executable, "-c", block + run], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout


def test_the_reading_order_counts_lines_right():
    """Catches a README whose reading order names a file that is gone, or miscounts it."""
    rows = re.findall(r"\| \[`([^`]+)`\]\([^)]+\) \| (\d+) \|", (ROOT / "README.md").read_text())
    assert len(rows) > 8
    for name, lines in rows:
        actual = len((ROOT / name).read_text().splitlines())
        assert abs(actual - int(lines)) <= max(5, actual // 10), f"{name}: {actual} lines, the README says {lines}"
