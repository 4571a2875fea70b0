"""Devices, processes and compiler of a training run."""

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
# On a machine without a GPU, the compiler warns that no CUDA runtime is found. That is expected.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def launch(trainer: TrainerSettings) -> Fabric:
    """Start Fabric on one device. Under torchrun, each of its processes has one device, on one or more machines.

    Raises:
        ConfigError: if the devices are not available.
    """
    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    # Fabric's own mixed precision is not used: it would round the waveforms too.
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
            f"trainer.accelerator={trainer.accelerator} cannot be used on this machine by {local} process"
            f"{'es' * (local > 1)} ({' '.join(str(error).split())})"
        ) from error
    return fabric


def shut_down(fabric: Fabric) -> None:
    """End the process group that `launch` started.

    Call it after all processes have finished and their learners are deleted. Otherwise the threads that exchange
    gradients can outlive the interpreter, and abort a process that has finished its work (pytorch issue 190489). If a
    learner still exists, it ends these threads itself and waits forever. Do not call it after an error in one process:
    it would wait for the others.
    """
    if fabric.world_size > 1:
        gc.collect()
        fabric.barrier()
        torch.distributed.destroy_process_group()


def compile_network(net: nn.Module, setting: str) -> nn.Module:
    """Compile the network, or return it unchanged, according to `trainer.compile`."""
    if setting == "off":
        return net
    if setting == "auto" and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        log.info("no C++ compiler found: training without torch.compile, at about half the speed")
        return net
    return torch.compile(net)  # type: ignore[return-value]
