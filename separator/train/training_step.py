"""One step of training: the objective, the optimizer step, and the average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from separator import objectives
from separator.data import Mixture, collate
from separator.devices import computes_bfloat16
from separator.errors import TrainingError, choose
from separator.models import ConvTasNet
from separator.train.trainer_settings import TrainerSettings


class Objective:
    """Metric that training maximizes, under the best permutation of the interchangeable sources.

    If some sources are interchangeable speakers, the others are background. The background is measured by its SNR. The
    SI-SNR would make the shape of an inaudible noise as important as a voice.

    Args:
        name: one of `separator.objectives.OBJECTIVES`.
        num_interchangeable: number of interchangeable sources, from the first. The others keep their order.

    Raises:
        ConfigError: if the name is unknown.
    """

    def __init__(self, name: str, num_interchangeable: int) -> None:
        self._metric_for = choose("objective", name, objectives.OBJECTIVES)
        self._background_metric_for = objectives.OBJECTIVES[objectives.BACKGROUND_OBJECTIVES[name]]
        self.num_interchangeable = num_interchangeable

    def __call__(self, estimate: Tensor, batch: Mixture) -> Tensor:
        """Objective in dB, `[batch]`, of estimates `[batch, source, ..., time]`."""
        estimate, reference, mixture = _without_channels(estimate, batch)
        alike, count = self.num_interchangeable, reference.shape[1]
        metric = self._metric_for(mixture)
        if not 0 < alike < count:
            return objectives.pit(metric, estimate, reference, alike)[0]
        speakers, _ = objectives.pit(metric, estimate[:, :alike], reference[:, :alike])
        background = self._background_metric_for(mixture)(estimate[:, alike:], reference[:, alike:])
        return (alike * speakers + background.sum(1)) / count

    def improvement(self, estimate: Tensor, batch: Mixture) -> Tensor:
        """SI-SNRi in dB, `[mixture]`, of the mixtures in the batch that are more than one of their sources alone."""
        estimate, reference, mixture = _without_channels(estimate, batch)
        gains = objectives.si_snr_improvement(
            estimate, reference, mixture, num_interchangeable=self.num_interchangeable
        )
        return gains[objectives.is_mixed(reference, mixture)]


def _without_channels(estimate: Tensor, batch: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """Concatenate the channels along time, so that each channel counts by its energy."""
    return estimate.flatten(2), batch.sources.flatten(2), batch.mixture.flatten(1)


class WeightAverage:
    """Exponential moving average of a network's parameters, in float32 (Polyak & Juditsky 1992).

    At first the decay is smaller than `decay`, so that the average forgets the random initial weights sooner.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.weights = {name: value.detach().clone() for name, value in net.named_parameters()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Add the network's current weights to the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = [(self.weights[name], value.detach()) for name, value in net.named_parameters()]
        torch._foreach_lerp_([mean for mean, _ in pairs], [value for _, value in pairs], 1 - decay)

    @contextlib.contextmanager
    def applied_to(self, net: nn.Module) -> Iterator[None]:
        """Context in which `net` has the averaged weights."""
        own = {name: value.detach().clone() for name, value in net.named_parameters()}
        _put(net, self.weights)
        try:
            yield
        finally:
            _put(net, own)

    def state(self) -> dict[str, Any]:
        """State for `restore`."""
        return {"updates": self.updates, "weights": self.weights}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.updates = state["updates"]
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])


@torch.no_grad()
def _put(net: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, parameter in net.named_parameters():
        parameter.copy_(weights[name])


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed the random numbers of a step, such as dropout, on every device of a process.

    The seed depends only on the run's seed, the step and the process. So a continued run does not need the state of the
    random generators of any GPU or other process. Each process has different dropout.
    """
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


class Step(NamedTuple):
    """Result of a step, over all processes.

    Attributes:
        loss: loss of the step.
        norm: norm of the gradient before clipping.
        is_skipped: whether the step was skipped because the loss or the gradient was not finite.
        skipped_recordings: number of recordings that could not be used.
    """

    loss: float
    norm: float
    is_skipped: bool
    skipped_recordings: int


class Learner:
    """Optimizer steps on a network.

    A step uses the same mixtures for any number of processes and parts. The resulting weights are the same up to
    rounding.

    Args:
        fabric: device and processes.
        net: the network. Its weights are saved.
        compiled: the same network, possibly compiled. It is used in training steps.
        optimizer: optimizer of the network's parameters.
        objective: the objective to maximize.
        settings: the `trainer` group of the configuration.
    """

    def __init__(
        self,
        fabric: Fabric,
        net: ConvTasNet,
        compiled: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        settings: TrainerSettings,
    ) -> None:
        self.fabric, self.net, self.objective, self.settings = fabric, net, objective, settings
        fastest = "bfloat16" if computes_bfloat16(fabric.device) else "float32"
        self.precision = fastest if settings.precision == "auto" else settings.precision
        self._shared: Any
        self._optimizer: Any
        self._shared, self._optimizer = fabric.setup(compiled, optimizer)
        self.average = WeightAverage(net, settings.ema_decay) if settings.ema_decay else None
        self.skipped_in_a_row = 0

    def step(self, parts: Sequence[Mixture], rate: float) -> Step:
        """Take one step. It is skipped if the loss or the gradient is not finite.

        Args:
            parts: this process's share of the batch, in equal parts.
            rate: learning rate.

        Raises:
            TrainingError: if too many steps in a row were skipped. The message names the mixtures of the last one.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss = torch.zeros((), device=self.fabric.device)
        for number, part in enumerate(parts, 1):
            batch = part.to(self.fabric.device)
            # The processes exchange gradients once, after the last part.
            with self.fabric.no_backward_sync(self._shared, enabled=number < len(parts)):
                with self.autocast():
                    estimate = self._shared(batch.mixture)
                part_loss = -self.objective(estimate, batch).mean() / len(parts)
                self.fabric.backward(part_loss)
            loss += part_loss.detach()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip_norm)
        recordings = torch.tensor(float(sum(len(part.skipped) for part in parts)), device=loss.device)
        world = self.fabric.world_size
        total = self._sum(torch.stack([loss / world, norm / world, recordings]))
        step = Step(total[0], total[1], not bool(torch.isfinite(torch.tensor(total)).all()), round(total[2]))
        if step.is_skipped:
            self._skip(parts, step)
            return step
        self.skipped_in_a_row = 0
        self._optimizer.step()
        if self.average is not None:
            self.average.update(self.net)
        return step

    @torch.no_grad()
    def score(self, mixtures: Any) -> tuple[float, float]:
        """Means of the objective and of the SI-SNRi in dB over a set of mixtures, divided among the processes."""
        self.net.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        for index in range(self.fabric.global_rank, len(mixtures), self.fabric.world_size):
            batch = collate([mixtures[index]]).to(self.fabric.device)
            with self.autocast():
                estimate = self.net(batch.mixture)
            gains = self.objective.improvement(estimate, batch)
            value = float(self.objective(estimate, batch).sum())
            sums += torch.tensor([value, 1.0, float(gains.sum()), len(gains)], dtype=torch.float64)
        self.net.train()
        value, count, gain, mixed = self._sum(sums.to(self.fabric.device))
        return value / count, gain / max(1, mixed)

    @torch.no_grad()
    def separate(self, item: Mixture) -> Tensor:
        """Separate one mixture in the same way as in validation, `[source, ..., time]`."""
        self.net.eval()
        with self.autocast():
            estimate = self.net(item.mixture[None].to(self.fabric.device))[0].float().cpu()
        self.net.train()
        return estimate

    def autocast(self) -> torch.autocast:
        """Context for mixed precision of matrix products. Norms, filterbank and loss stay in float32."""
        return torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def best_weights(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the network has the weights to validate and save: the average, if there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.applied_to(self.net)

    def state(self) -> dict[str, Any]:
        """State for `restore`."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.net.load_state_dict(state["net"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.restore(state["average"])
        self.skipped_in_a_row = state["skipped_in_a_row"]

    def gather(self, texts: Sequence[str]) -> list[str]:
        """Collect the texts of all processes. Every process gets all of them."""
        if self.fabric.world_size == 1:
            return list(texts)
        found: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(found, list(texts))
        return [text for part in found for text in part]

    def _sum(self, values: Tensor) -> list[float]:
        if self.fabric.world_size > 1:
            torch.distributed.all_reduce(values)
        return values.tolist()

    def _skip(self, parts: Sequence[Mixture], step: Step) -> None:
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.settings.max_skips:
            names = ", ".join(self.gather([part.name for part in parts]))
            raise TrainingError(
                f"{self.skipped_in_a_row} steps in a row were not finite, the last with a loss of {step.loss:g} and a "
                f"gradient norm of {step.norm:g}; lower optimizer.lr or use trainer.precision=float32. Mixtures of the "
                f"last step: {names}"
            )
