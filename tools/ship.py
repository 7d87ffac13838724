"""Make a small copy of a trained policy, to be kept in the repository: weights in half precision, and its flags.

    python -m tools.ship --run runs/faucet_demo --out checkpoints/faucet

It loads, evaluates and resumes nothing else: evaluate.py --run checkpoints/faucet acts with it.
"""

from pathlib import Path

import torch

from model.checkpoint import load_file, save_file
from util.cli import Parser, command
from util.files import InputError, write_file
from videopolicy import VideoPolicy

SMALL = 64  # numbers that stay as they are: statistics, whose rounding would move every action


def main():
    parser = Parser(prog="ship.py", description="Make a small copy of a trained policy.", epilog=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a run folder of train.py")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    if args.out.exists():
        raise InputError(f"--out {args.out}: is there already; choose another name or move it away")
    VideoPolicy.load(args.run / "policy.pt")  # that it is one is said before a folder is made
    flags = (args.run / "args.json").read_text()
    contents = load_file(args.run / "policy.pt")
    weights = contents["weights"].items()
    contents["weights"] = {name: w.half() if w.numel() > SMALL else w for name, w in weights}
    if not all(torch.isfinite(weight).all() for weight in contents["weights"].values()):
        raise InputError(f"{args.run}/policy.pt: a weight is too large for half precision; keep the policy as it is")
    args.out.mkdir(parents=True)
    save_file(contents, args.out / "policy.pt")
    write_file(args.out / "args.json", flags)
    print(f"{args.out}/policy.pt: {(args.out / 'policy.pt').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    command(main)
