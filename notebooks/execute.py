"""Run notebooks from top to bottom and keep their outputs: how those in the repository were made.

    ./run notebooks --execute                               # all, in their order, in place: about half an hour
    SMALL=1 python notebooks/execute.py --out taste         # everything small, elsewhere: a minute each

In their order, because later ones take up what earlier ones have trained. In place, the picture of the cell that is
tagged "picture" goes into assets/, for the README.
"""

import argparse
import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

HERE = Path(__file__).resolve().parent


def execute(path: Path, out: Path) -> tuple[float, bytes | None]:
    """Run a notebook in its own folder and write it with its outputs to `out` -> seconds, the tagged cell's PNG if any.

    CellExecutionError where a cell fails; then nothing is written.
    """
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    # Merged streams: of a progress bar only its end is kept. No times: what has not changed should not look so.
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", coalesce_streams=True, record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)  # Pillow's second version of a PNG
            if "text" in output:
                output["text"] = output["text"].replace("\r", "")  # commands for the shell end their lines with it
        if "outputs" in cell:  # of a bar that was taken away blanks are left
            cell.outputs = [output for output in cell.outputs if output.get("text", "something").strip()]
    write(out, nbformat.writes(notebook).encode())
    tagged = [cell for cell in notebook.cells if "picture" in cell.metadata.get("tags", ())]
    shown = [output["data"]["image/png"] for cell in tagged for output in cell.outputs if "data" in output]
    return time.monotonic() - started, base64.b64decode(shown[0]) if shown else None


def write(path: Path, contents: bytes) -> None:
    """Write a file beside its target and move it into place."""
    part = Path(f"{path}.part")
    part.write_bytes(contents)
    os.replace(part, path)


def main() -> None:
    """Execute the notebooks named, or all."""
    parser = argparse.ArgumentParser(description="Run notebooks and keep their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="which (default: all)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write them (default: in place)")
    args = parser.parse_args()
    paths = [path.resolve() for path in args.notebooks] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        if path.suffix != ".ipynb" or not path.is_file():
            parser.error(f"{path}: no such notebook; there are {', '.join(p.name for p in HERE.glob('*.ipynb'))}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        try:
            seconds, picture = execute(path, (args.out or path.parent) / path.name)
        except (CellExecutionError, DeadKernelError) as error:
            sys.exit(f"{path}: {error}")
        if picture and not args.out:
            write(HERE.parent / "assets" / f"{path.stem}.png", picture)
        print(f"{path.name}: {seconds / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
