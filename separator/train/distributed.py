"""What a training run works with: devices, other processes, a compiler."""

from __future__ import annotations

import gc
import logging
import os
import shutil

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from separator.errors import ConfigError
from separator.train.trainer_settings import TrainerSettings

log = logging.getLogger("separator.train")
# On a machine without a GPU the compiler says that no CUDA runtime is found, which is no news.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def launch(trainer: TrainerSettings) -> Fabric:
    """One device; or under torchrun one for each of its processes, on as many machines as it says.

    Raises:
        ConfigError: if there are no such devices.
    """
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    # Not with its own mixed precision, which would round the waveforms too.
    try:
        fabric = Fabric(
            accelerator=trainer.accelerator,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
        )
        fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(
            f"trainer.accelerator={trainer.accelerator} cannot be used here by {local} process"
            f"{'es' * (local > 1)} ({' '.join(str(error).split())})"
        ) from error
    return fabric


def leave(fabric: Fabric) -> None:
    """Ends what `launch` began, once all processes are done and their learners are gone.

    Without it the threads that exchange gradients may outlive the interpreter, and abort a process that has done all it
    had to (pytorch issue 190489); while a learner is there, it would be the one to end them, and wait for ever. Not
    after an error in one process: this would wait for the others.
    """
    if fabric.world_size > 1:
        gc.collect()
        fabric.barrier()
        torch.distributed.destroy_process_group()


def compiled(net: nn.Module, setting: str) -> nn.Module:
    """The network as it is run, by `trainer.compile`."""
    if setting == "off":
        return net
    if setting == "auto" and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        log.info("no C++ compiler found: training without torch.compile, at about half the speed")
        return net
    return torch.compile(net)  # type: ignore[return-value]
