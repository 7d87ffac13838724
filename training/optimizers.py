"""Muon: momentum whose step is made orthogonal (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

The gradient of a weight matrix is nearly of low rank: a few directions dominate it, and Adam, which treats every number
by itself, follows those. Muon replaces the step U S V^T by U V^T, in which every direction counts alike.
"""

import torch
from torch import nn


def orthogonalize(matrices, iterations=5):
    """Matrices (N, m, n) -> of each about its U V^T, singular values between 0.7 and 1.2.

    Newton-Schulz: X <- (a + b A + c A^2) X, with A = X X^T, moves every singular value towards 1 and leaves U and V as
    they are. These coefficients rise steeply at 0, which is worth more than converging to exactly 1 (Jordan et al.
    2024). The factors are multiplied up first and meet X once: kernels are wide, and A is of their smaller side.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    X = matrices.mT if tall else matrices
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)  # no singular value above 1
    A, factors = X @ X.mT, None
    for i in range(iterations):
        Q = torch.baddbmm(A, A, A, beta=b, alpha=c)
        Q.diagonal(dim1=1, dim2=2).add_(a)
        factors = Q if factors is None else Q @ factors
        if i + 1 < iterations:
            A = Q @ A @ Q
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
            lr, momentum, by_shape = group["lr"], group["momentum"], {}  # matrices of one shape go through together
            for p in group["params"]:
                if p.grad is None:  # without a video loss some weights get none
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                average = state["momentum"].lerp_(p.grad, 1 - momentum)
                nesterov = p.grad.lerp(average, momentum).flatten(1)
                by_shape.setdefault(nesterov.shape, []).append((p, nesterov))
            for shape, pairs in by_shape.items():
                steps = orthogonalize(torch.stack([nesterov for _, nesterov in pairs]))
                for (p, _), step in zip(pairs, steps, strict=True):
                    p.mul_(1 - lr * group["weight_decay"])
                    p.add_(step.view_as(p), alpha=-lr * 0.2 * max(shape) ** 0.5)


def make_optimizers(modules, config):
    """[Muon for the matrices of all modules but the head, AdamW for all else], or AdamW alone.

    modules: {name: what is trained}. Each group has the learning rate "peak" that its schedule is a share of. Differs:
    the paper has Adam.
    """
    layers = [layer for name, module in modules.items() if name != "head" for layer in module.modules()]
    matrices = [layer.weight for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)] if config.muon else []
    chosen = {id(p) for p in matrices}
    rest = []
    for name, module in modules.items():
        others = [p for p in module.parameters() if id(p) not in chosen]
        rest.append({"params": others, "peak": config.head_lr if name == "head" else config.lr})
    adamw = torch.optim.AdamW(rest, config.lr, config.betas, weight_decay=config.weight_decay, fused=True)
    groups = [{"params": matrices, "peak": config.lr}]
    return [Muon(groups, config.lr, config.momentum, config.weight_decay), adamw] if matrices else [adamw]
