"""The `trainer` group of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from separator.errors import check_number, check_whole, choose


@dataclass(frozen=True)
class TrainerSettings:
    """Settings of the training loop.

    Attributes:
        max_steps: number of optimizer steps.
        batch_size: mixtures in a step, over all processes (default: 8).
        accumulate: gradient accumulation: number of parts of a process's share of a batch, to save memory (default: 1).
        clip_norm: largest norm of the gradient. A larger gradient is scaled down (default: 5).
        ema_decay: decay of the exponential moving average of the weights. The average is validated and saved instead of
            the weights. 0 (default) for no average.
        validate_every: steps between validations (default: 500).
        early_stop: early stopping: validations in a row without a new best score before the run ends. null (default)
            for no early stopping.
        max_skips: steps in a row with a loss or gradient that is not finite before the run fails (default: 10). Such
            steps are skipped.
        log_every: steps between rows of `train.csv` (default: 20).
        log_mixtures: number of validation mixtures written to TensorBoard, with their estimates, at every new best
            score (default: 3).
        checkpoint_minutes: minutes between checkpoints (default: 5). Every validation also saves a checkpoint.
        keep_every: steps between the models that are kept as `step-NUMBER.safetensors`, for checkpoint averaging and to
            branch off runs with a decay. null (default) for none.
        max_minutes: stop after this many minutes and save a checkpoint to continue from. null (default) for no limit.
        precision: mixed precision: "float32" (default), "bfloat16" for matrix products (norms, filterbank and loss stay
            in float32), or "auto" for bfloat16 if the hardware supports it.
        accelerator: "auto" (default), "cpu", "cuda" or "mps".
        compile: torch.compile: "auto" (default) if a compiler is installed, "on" always, "off" never.
        recompute: gradient checkpointing: save only the activations between blocks and recompute the rest for the
            gradient. Useful for long segments (default: false).
        num_workers: worker processes that load mixtures, for each training process (default: 1). 0 loads them between
            the steps.
    """

    max_steps: int
    batch_size: int = 8
    accumulate: int = 1
    clip_norm: float = 5.0
    ema_decay: float = 0.0
    validate_every: int = 500
    early_stop: int | None = None
    max_skips: int = 10
    log_every: int = 20
    log_mixtures: int = 3
    checkpoint_minutes: float = 5.0
    keep_every: int | None = None
    max_minutes: float | None = None
    precision: str = "float32"
    accelerator: str = "auto"
    compile: str = "auto"
    recompute: bool = False
    num_workers: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.compile, bool):  # YAML reads "on" and "off" as booleans
            object.__setattr__(self, "compile", "on" if self.compile else "off")
        choose("trainer.precision", self.precision, dict.fromkeys(("auto", "float32", "bfloat16")))
        choose("trainer.accelerator", self.accelerator, dict.fromkeys(("auto", "cpu", "cuda", "mps")))
        choose("trainer.compile", self.compile, {"auto": None, "on": None, "off": None})
        for name in ("max_steps", "batch_size", "accumulate", "validate_every", "max_skips", "log_every"):
            check_whole(f"trainer.{name}", getattr(self, name))
        for name in ("num_workers", "log_mixtures"):
            check_whole(f"trainer.{name}", getattr(self, name), least=0)
        for name in ("early_stop", "keep_every", "max_minutes"):
            if getattr(self, name) is not None:
                check_number(f"trainer.{name}", getattr(self, name), 0 if name == "max_minutes" else 1)
        check_number("trainer.clip_norm", self.clip_norm, 1e-9)
        check_number("trainer.checkpoint_minutes", self.checkpoint_minutes, 0)
        check_number("trainer.ema_decay", self.ema_decay, 0, 1 - 1e-9)
