"""The tutorial notebooks: that they run, are short, show what they made, and name what is there."""

import ast
import base64
import importlib
import inspect
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

NAMES = [
    "01_tasks_and_demos", "02_video_diffusion", "03_decoding_actions", "04_two_stage_or_joint", "05_generalisation"
]  # fmt: skip
PATHS = [ROOT / "notebooks" / f"{name}.ipynb" for name in NAMES]
KNOWN = {"h5py", "matplotlib", "numpy", "PIL", "torch", "tqdm"}  # what may be imported beside the project's own


def cells(path, kind):
    """The cells of one kind, "code" or "markdown", with their sources as strings."""
    found = json.loads(path.read_text())["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found if cell["cell_type"] == kind]


def python(source):
    """A cell's code without its lines for the shell."""
    return "\n".join(line for line in source.splitlines() if not line.startswith("!"))


def our_definitions():
    """Name -> files: every function and class at the top of a file of ours, and every method."""
    found = {}
    for path in [*ROOT.glob("*.py"), *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]:
        for node in ast.parse(path.read_text()).body:
            for part in [node, *(node.body if isinstance(node, ast.ClassDef) else ())]:
                if isinstance(part, ast.FunctionDef | ast.ClassDef):
                    found.setdefault(part.name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_there_are_five():
    """Catches a notebook that was added or renamed and that no test looks at."""
    assert sorted(ROOT.glob("notebooks/*.ipynb")) == PATHS


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_short_and_of_one_kind(path):
    """Catches a notebook that has grown, a first cell that differs from the others', answers that are missing."""
    code = [cell["source"] for cell in cells(path, "code")]
    assert sum(bool(line.strip()) for source in code for line in source.splitlines()) <= 120
    assert max(len(source.splitlines()) for source in code) <= 15
    assert code[0] == cells(PATHS[0], "code")[0]["source"]
    text = "\n".join(cell["source"] for cell in cells(path, "markdown"))
    for part in ("## Try next", "### Answer 1", "### Answer 2", "**Look at**"):
        assert part in text, part


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_imports_and_redefines_nothing(path):
    """Catches a notebook with a copy of the project's code in it, or one that needs what is not installed."""
    ours = our_definitions()
    for cell in cells(path, "code"):
        source = python(cell["source"])
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in ours, f"{node.name} is defined in {ours[node.name]}"
        for name in imports(source):
            assert name in OURS | KNOWN or name in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_what_it_imports_is_there(path):
    """Catches a function that has moved to another file; most notebooks run in the slow tests only."""
    tree, ours = ast.parse("\n".join(python(cell["source"]) for cell in cells(path, "code"))), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in OURS:
            for name in (alias.name for alias in node.names):
                package = importlib.import_module(node.module)
                ours[name] = getattr(package, name, None) or importlib.import_module(f"{node.module}.{name}")
    assert ours
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = ours.get(node.value.id)
            assert not inspect.ismodule(module) or hasattr(module, node.attr), f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_text_names_what_is_there(path):
    """Catches text about a function that has been renamed, or has moved to another file."""
    ours = our_definitions()
    text = "\n".join(cell["source"] for cell in cells(path, "markdown"))
    pairs = re.findall(r"`([\w.]+)`[^`.]{0,40}? (?:in|is in) `([\w/]+\.py)`", text)
    assert pairs, "a notebook sends its reader to functions in files"
    for name, file in pairs:
        name = name.split(".")[-1]
        variable = re.search(rf"^{name}\b.* = ", (ROOT / file).read_text(), re.MULTILINE)
        assert file in ours.get(name, ()) or variable, f"{name} is not in {file}"
    for file in re.findall(r"`([\w/]+\.(?:py|ipynb|md))`", text):
        assert (ROOT / file).exists() or (path.parent / file).exists(), file


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_outputs_are_kept_small_and_clean(path):
    """Catches a notebook committed without outputs, with an error, with heavy pictures or with paths of a machine."""
    pictures = 0
    for number, cell in enumerate(cells(path, "code"), start=1):
        assert cell["execution_count"] == number, "run it anew: ./run notebooks --execute"
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            said = "".join(output.get("text", ""))
            assert "\r" not in said and "Warning" not in said, said
            for place in ("/home/", "/tmp/", "/root/", "/work/", "/usr/", str(ROOT)):
                assert place not in said, said
            for kind, data in output.get("data", {}).items():
                if kind.startswith("image/"):
                    pictures += 1
                    assert len(base64.b64decode(data)) <= 100_000, f"cell {number}: too heavy a picture"
    assert pictures >= 3
    assert sum(p.stat().st_size for p in PATHS) <= 4_000_000


def run_small(names, folder):
    """Run notebooks at their small size in a copy of the project, so that nothing of the user's is taken up."""
    copy = folder / "project"
    leave = shutil.ignore_patterns(".*", "demos", "demos[0-9_]*", "__pycache__", "assets")

    def ignore(place, names):  # results/*/runs are read by notebooks, runs/ is the user's
        return leave(place, names) | ({"runs"} if Path(place) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=ignore)
    words = [sys.executable, "notebooks/execute.py", *(f"notebooks/{name}.ipynb" for name in names), "--out", "done"]
    done = subprocess.run(words, cwd=copy, env=os.environ | {"SMALL": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        outputs = [output for cell in cells(copy / "done" / f"{name}.ipynb", "code") for output in cell["outputs"]]
        assert any("image/png" in output.get("data", {}) for output in outputs)


def test_one_runs(tmp_path):
    """Catches code that has moved on from under the notebooks; this one goes all the way from recording to acting."""
    run_small(["03_decoding_actions"], tmp_path)


@pytest.mark.slow
def test_all_run_in_order(tmp_path):
    """Catches the same in the others, and a notebook that does not find what an earlier one has left."""
    run_small(NAMES, tmp_path)


def test_a_missing_notebook_is_one_line():
    """Catches a traceback for a mistyped name."""
    words = [sys.executable, "notebooks/execute.py", "notebooks/06.ipynb"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "06.ipynb: no such notebook" in done.stderr and "Traceback" not in done.stderr
