"""Muon: momentum whose step is made orthogonal (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

A gradient of a weight matrix is nearly of low rank: a few directions rule it, and Adam, which looks at one number at a
time, keeps following them. Muon replaces the step U S V^T by U V^T, in which every direction counts alike.
"""

import torch
from torch import nn

from model.checkpoint import check_tensors


def orthogonalize(matrix, iterations=5):
    """A matrix (m, n) -> about its U V^T, singular values between 0.7 and 1.2.

    Newton-Schulz: X <- (a + b A + c A^2) X, with A = X X^T, moves every singular value towards 1 and leaves U and V as
    they are. These coefficients rise steeply at 0, which is worth more than converging to exactly 1 (Jordan et al.
    2024). The factors are multiplied up first and meet X once: kernels are wide, and A is of their smaller side.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    X = matrix.mT if tall else matrix
    X = X / (X.norm() + 1e-7)  # no singular value above 1
    A = X @ X.mT
    factors = identity = torch.eye(len(A), dtype=A.dtype, device=A.device)
    for _ in range(iterations):
        Q = a * identity + b * A + c * A @ A
        factors, A = Q @ factors, Q @ A @ Q
    X = factors @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized, for weights of linear layers and convolutions.

    A kernel (out, in, k, k) counts as the matrix (out, in k k). Steps are scaled by 0.2 sqrt(larger side), so that an
    entry moves about as far as under AdamW, and the same rate fits both (Liu et al. 2025, arXiv 2502.16982, eq. 4).
    torch.optim.Muon takes matrices only, and orthogonalizes them in bf16.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:  # without a video loss some weights get none
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                average = state["momentum"].lerp_(p.grad, 1 - momentum)
                step = orthogonalize(p.grad.lerp(average, momentum).flatten(1))
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(step.view_as(p), alpha=-lr * 0.2 * max(step.shape) ** 0.5)


def matrices_of(*modules):
    """The parameters that Muon trains: weights of linear layers and convolutions. Tables of embeddings are none."""
    layers = [layer for module in modules for layer in module.modules()]
    return [layer.weight for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]


def make_optimizers(policy, trained, config):
    """[Muon for the matrices of the generator, AdamW for all else], or AdamW alone; trained: {part: its parameters}.

    Differs: the paper has Adam.

    Each group has the learning rate "peak" that its schedule is a share of.
    """
    matrices = matrices_of(policy.unet, policy.text) if config.muon and "generator" in trained else []
    chosen = {id(p) for p in matrices}
    peaks = {"generator": config.lr, "head": config.head_lr}
    rest = [
        {"params": [p for p in parameters if id(p) not in chosen], "peak": peaks[part]}
        for part, parameters in trained.items()
    ]
    adamw = torch.optim.AdamW(rest, config.lr, config.betas, weight_decay=config.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    groups = [{"params": matrices, "peak": config.lr}]
    return [Muon(groups, config.lr, config.momentum, config.weight_decay), adamw]


def load_states(optimizers, saved):
    """Give optimizers the states that they had, [{index of a parameter: its state}, ...]: what state_dict()["state"]
    says. ValueError and the like unless every tensor fits its parameter: a fused step does not look.
    """
    for optimizer, states in zip(optimizers, saved, strict=True):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        names = ("momentum",) if isinstance(optimizer, Muon) else ("step", "exp_avg", "exp_avg_sq")
        for i, state in states.items():
            like = dict.fromkeys(names, parameters[i])
            check_tensors(state, like | ({"step": torch.zeros(())} if "step" in names else {}))
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
