"""The tutorial notebooks: that they run, are short, show what they made, and name what is there."""

import ast
import base64
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from common import ROOT
from test_imports import OURS, PACKAGES, imports

NAMES = "01_tasks_and_demos 02_video_diffusion 03_decoding_actions 04_two_stage_or_joint 05_generalisation"
NAMES = f"{NAMES} 06_learning_by_watching".split()
PATHS = [ROOT / "notebooks" / f"{name}.ipynb" for name in NAMES]
KNOWN = {"h5py", "matplotlib", "numpy", "PIL", "scipy", "torch", "tqdm"}  # beside the project's own
every_notebook = pytest.mark.parametrize("path", PATHS, ids=NAMES)


def cells(path, kind):
    """The cells of one kind, "code" or "markdown", with their sources as strings."""
    of_kind = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]
    return [cell | {"source": "".join(cell["source"])} for cell in of_kind]


def code(path):
    """All code of a notebook, without its lines for the shell."""
    lines = "\n".join(cell["source"] for cell in cells(path, "code")).splitlines()
    return "\n".join(line for line in lines if not line.startswith("!"))


@every_notebook
def test_short_and_of_one_kind(path):
    """Catches a notebook that has grown, another first cell, missing answers, a new notebook that is not tested."""
    assert sorted(ROOT.glob("notebooks/*.ipynb")) == PATHS
    sources = [cell["source"] for cell in cells(path, "code")]
    assert sum(bool(line.strip()) for source in sources for line in source.splitlines()) <= 120
    assert max(len(source.splitlines()) for source in sources) <= 15
    assert sources[0] == cells(PATHS[0], "code")[0]["source"]
    assert all(line.startswith('!"{') for line in "\n".join(sources).splitlines() if line[:1] == "!")  # for a blank
    text = "\n".join(cell["source"] for cell in cells(path, "markdown"))
    for part in ("## Try next", "### Answer 1", "### Answer 2", "**Look at**"):
        assert part in text, part


@every_notebook
def test_what_it_imports_is_there(path):
    """Catches a name that has moved to another file, and an import of what is not installed."""
    for name in imports(code(path)):
        assert name in OURS | KNOWN or name in sys.stdlib_module_names, name
    for node in ast.walk(ast.parse(code(path))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            for name in (alias.name for alias in node.names):
                if not hasattr(importlib.import_module(node.module), name):
                    importlib.import_module(f"{node.module}.{name}")


@every_notebook
def test_the_text_names_what_is_there(path):
    """Catches text about a function that has been renamed or moved, and code of the project that was copied."""
    ours = {}  # name -> files that define it
    for file in [*ROOT.glob("*.py"), *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]:
        for name in re.findall(r"^ *(?:def|class) (\w+)|^(\w+)\b.* = ", file.read_text(), re.MULTILINE):
            ours.setdefault("".join(name), set()).add(str(file.relative_to(ROOT)))
    text = "\n".join(cell["source"] for cell in cells(path, "markdown"))
    pairs = re.findall(r"`([\w.]+)`[^`.]{0,40}? (?:in|is in) `([\w/]+\.py)`", text)
    assert pairs, "a notebook sends its reader to functions in files"
    for name, file in pairs:
        assert file in ours.get(name.split(".")[-1], ()), f"{name} is not in {file}"
    for file in re.findall(r"`([\w/]+\.(?:py|ipynb|md|jsonl))`", text):
        assert (ROOT / file).exists() or (path.parent / file).exists(), file
    assert not {*re.findall(r"^(?:def|class) (\w+)", code(path), re.MULTILINE)} & ours.keys()


@every_notebook
def test_outputs_are_kept_small_and_clean(path):
    """Catches a notebook committed without outputs, with an error, with heavy pictures or with paths of a machine."""
    pictures = []
    for number, cell in enumerate(cells(path, "code"), start=1):
        assert cell["execution_count"] == number, "run it anew: ./run notebooks --execute"
        for output in cell["outputs"]:
            printed = "".join(output.get("text", ""))
            assert output["output_type"] != "error" and not re.search(r"\r|Warning", printed), printed
            assert not re.search(f"/(home|tmp|root|work|usr)/|{re.escape(str(ROOT))}", printed), printed
            pictures += [data for kind, data in output.get("data", {}).items() if kind.startswith("image/")]
    assert len(pictures) >= 3 and max(len(base64.b64decode(data)) for data in pictures) <= 100_000


@pytest.mark.parametrize("names", [NAMES[2:3], pytest.param(NAMES, marks=pytest.mark.slow)], ids=["one", "all"])
def test_they_run(tmp_path, names):
    """Catches code that has changed under the notebooks. The third goes all the way from recording to acting; all of
    them in their order: one that needs what an earlier one has left. Small, in a folder whose name has a blank.
    """
    copy, leave = tmp_path / "the project", (".*", "demos", "demos[0-9_]*", "__pycache__", "assets", "runs")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*leave))
    (copy / ".venv").symlink_to(sys.prefix)
    paths = [f"notebooks/{name}.ipynb" for name in names]
    words = [copy / ".venv/bin/python", "notebooks/execute.py", *paths, "--out", "done"]
    done = subprocess.run(words, cwd=copy, env=os.environ | {"SMALL": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all("image/png" in (copy / "done" / Path(path).name).read_text() for path in paths)


def test_a_missing_notebook_is_one_line():
    """Catches a traceback for a mistyped name."""
    words = [sys.executable, "notebooks/execute.py", "notebooks/06.ipynb"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "06.ipynb: no such notebook" in done.stderr and "Traceback" not in done.stderr
