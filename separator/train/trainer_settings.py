"""The `trainer` group of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from separator.errors import check_number, check_whole, choose


@dataclass(frozen=True)
class TrainerSettings:
    """How a run is done.

    Attributes:
        max_steps: optimizer steps in all.
        batch_size: mixtures in a step, over all processes.
        accumulate: parts in which a process takes its share of a batch, one after the other, to save memory.
        clip_norm: the gradient is scaled down to at most this norm.
        ema_decay: of the moving average of the weights, which is validated and kept in their place; 0 for none.
        validate_every: steps between validations.
        early_stop: validations in a row without a new best score after which to end; null for never.
        max_skips: steps in a row without a finite loss and gradient after which to give up; others are skipped.
        log_every: steps between rows of `train.csv`.
        log_mixtures: validation mixtures that TensorBoard plays and shows, separated, at every new best score.
        checkpoint_minutes: minutes between checkpoints, beside the one after every validation.
        keep_every: steps between checkpoints of the weights that are kept for good, as `step-NUMBER.safetensors`, for
            means and for decays that branch off; null for none.
        max_minutes: stop after so many minutes, with a checkpoint to continue from; null for never.
        precision: "float32", "bfloat16" for the products (norms, filterbank and loss stay float32), or "auto":
            bfloat16 where the processor computes it.
        accelerator: "auto", "cpu", "cuda" or "mps".
        compile: "auto" compiles the network if a compiler is there, "on" demands it, "off" does not.
        recompute: keep only what is between blocks and compute the rest again for the gradient: for long segments.
        num_workers: processes that draw mixtures, for each process that trains; 0 draws them between the steps.
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
        if isinstance(self.compile, bool):  # as YAML reads "on" and "off"
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
