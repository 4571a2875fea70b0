"""Muon: orthogonalized momentum for weight matrices, Adam for all other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from separator.devices import computes_bfloat16

# Quintic Newton-Schulz iteration (Jordan 2024). Five iterations bring the singular values to about 0.7 to 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# RMS of a step, equal to that of Adam (Liu et al. 2025). So one learning rate works for both.
STEP_RMS = 0.2


class Muon(Optimizer):
    """Orthogonalized momentum for weight matrices, Adam (Kingma & Ba 2015) for all other parameters.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. Step sizes as in J. Liu et al.,
    "Muon is Scalable for LLM Training", 2025, arXiv:2502.16982. The filters of the encoder and the decoder are sets of
    vectors rather than a matrix. They use Adam.

    Args:
        parameters: parameters of a network, with their names.
        lr: learning rate of both (default: 0.002).
        momentum: Nesterov momentum of the matrices (default: 0.95).
        betas: Adam's betas (default: 0.9 and 0.999).
        eps: Adam's epsilon (default: 1e-8).
        weight_decay: weight decay of the matrices (default: 0). A step removes this times the learning rate from each
            weight. Without decay, steps of constant size let the weights grow without bounds, and so the features,
            which bfloat16 then rounds.
        adam_scale: factor of the learning rate for Adam (default: 1).
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Tensor]],
        lr: float = 0.002,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        adam_scale: float = 1.0,
    ) -> None:
        named = list(parameters)
        matrices = [value for name, value in named if _is_matrix(name, value)]
        others = [value for name, value in named if not _is_matrix(name, value)]
        groups = [{"params": matrices, "orthogonal": True}, {"params": others, "orthogonal": False}]
        defaults = {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps}
        super().__init__(groups, defaults | {"weight_decay": weight_decay, "adam_scale": adam_scale})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step. Parameters without a gradient are skipped."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [value for value in group["params"] if value.grad is not None]
            if parameters:
                (self._step_matrices if group["orthogonal"] else self._step_others)(group, parameters)
        return loss

    def _step_matrices(self, group: dict[str, Any], matrices: list[Tensor]) -> None:
        means = self._buffers(matrices, "mean")
        gradients = _gradients(matrices)
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        if group["weight_decay"]:
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        # Matrices of the same shape are processed together: small products are mostly overhead.
        for shape in {value.shape for value in matrices}:
            chosen = [index for index, value in enumerate(matrices) if value.shape == shape]
            steps = orthogonalize(torch.stack([ahead[index] for index in chosen]))
            size = -group["lr"] * STEP_RMS * max(shape) ** 0.5
            torch._foreach_add_([matrices[index] for index in chosen], list(steps), alpha=size)

    def _step_others(self, group: dict[str, Any], others: list[Tensor]) -> None:
        means, squares = self._buffers(others, "mean"), self._buffers(others, "square")
        gradients = _gradients(others)
        first, second = group["betas"]
        steps = self._buffers(others, "step", scalar=True)
        torch._foreach_add_(steps, 1)
        # Each parameter has its own count: the means of a parameter that joins later also start later.
        counts = [int(step) for step in steps]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_div_(scale, [(1 - second**count) ** 0.5 for count in counts])
        torch._foreach_add_(scale, group["eps"])
        rate = group["lr"] * group["adam_scale"]
        torch._foreach_addcdiv_(others, means, scale, [-rate / (1 - first**count) for count in counts])

    def _buffers(self, parameters: list[Tensor], name: str, scalar: bool = False) -> list[Tensor]:
        """Optimizer state `name` of each parameter, initially zero."""
        for value in parameters:
            if name not in self.state[value]:
                self.state[value][name] = (
                    torch.zeros((), dtype=torch.float32, device="cpu") if scalar else torch.zeros_like(value)
                )
        return [self.state[value][name] for value in parameters]


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [value.grad for value in parameters if value.grad is not None]


def _is_matrix(name: str, value: Tensor) -> bool:
    return value.ndim == 2 and min(value.shape) > 1 and not name.startswith(("encoder.", "decoder."))


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values of `[matrix, row, column]` near 1. bfloat16 is accurate enough for this."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    dtype = torch.bfloat16 if computes_bfloat16(matrices.device) else matrices.dtype
    result = (matrices.mT if is_tall else matrices).to(dtype).contiguous()
    result = result / result.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = torch.bmm(result, result.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        result = torch.baddbmm(result, polynomial, result, beta=linear)
    return (result.mT if is_tall else result).to(matrices.dtype)
