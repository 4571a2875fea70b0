"""The `schedule` groups of the configuration. A schedule gives a factor of the learning rate for each step."""

from __future__ import annotations

from dataclasses import dataclass, field

from separator.errors import ConfigError, check_number, check_whole


@dataclass
class Halve:
    """Linear warm-up, then halve the learning rate when validation stops improving. It is the common recipe.

    Attributes:
        patience: validations in a row without a new best score before the rate is reduced (default: 3).
        factor: factor of each reduction (0 to 1, default: 0.5).
        warmup_steps: steps of the warm-up (default: 0).
    """

    patience: int = 3
    factor: float = 0.5
    warmup_steps: int = 0
    scale: float = field(default=1.0, init=False)
    stale: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        check_whole("schedule.patience", self.patience)
        check_number("schedule.factor", self.factor, 0, 1)
        check_whole("schedule.warmup_steps", self.warmup_steps, least=0)

    def after_validation(self, is_best: bool) -> None:
        """Count a validation."""
        self.stale = 0 if is_best else self.stale + 1
        if self.stale >= self.patience:
            self.scale, self.stale = self.scale * self.factor, 0

    def at(self, step: int) -> float:
        """Factor for step `step`, counted from 1."""
        return self.scale * _rise(step, self.warmup_steps)


@dataclass
class LinearDecay:
    """Linear warm-up, constant rate, then linear decay to zero.

    Attributes:
        steps: number of steps of the training.
        warmup_steps: steps of the warm-up (default: 0).
        decay_steps: steps of the decay, at the end of the training. null (default) for all steps.
    """

    steps: int
    warmup_steps: int = 0
    decay_steps: int | None = None

    def __post_init__(self) -> None:
        self.decay_steps = self.steps if self.decay_steps is None else self.decay_steps
        # The warm-up may be longer than the training: a short trial of a recipe ends during its warm-up.
        if self.warmup_steps < 0 or not 0 < self.decay_steps <= self.steps:
            raise ConfigError(
                f"schedule: expected warmup_steps of 0 or more and decay_steps from 1 to steps={self.steps}, "
                f"got {self.warmup_steps} and {self.decay_steps}"
            )

    def after_validation(self, is_best: bool) -> None:
        """Do nothing: this schedule depends only on the step."""

    def at(self, step: int) -> float:
        """Factor for step `step`, counted from 1."""
        fall = (self.steps + 1 - step) / (self.decay_steps or self.steps)
        return _rise(step, self.warmup_steps) * min(1.0, max(0.0, fall))


def _rise(step: int, warmup_steps: int) -> float:
    return min(1.0, step / warmup_steps) if warmup_steps else 1.0
