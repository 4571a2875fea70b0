"""Conv-TasNets of other projects as ours: the same weights, the same output.

asteroid's files, torchaudio's networks, and the folders of SpeechBrain's recipes. What one of them has and our
network has not is refused by name. Nothing in a file is run: tensors and plain values are all that is read.
"""

from __future__ import annotations

from pathlib import Path

from separator.errors import CheckpointError
from separator.models import ConvTasNet
from separator.zoo.foreign import asteroid, speechbrain, torchaudio
from separator.zoo.foreign.reading import MAX_BYTES, read_tensors

__all__ = ["MAX_BYTES", "asteroid", "load_file", "speechbrain", "torchaudio"]


def load_file(path: Path) -> ConvTasNet:
    """The network in a file that asteroid wrote.

    Raises:
        CheckpointError: if it is damaged, holds more than tensors and plain values, or another network.
    """
    content = read_tensors(path)
    if "model_name" in content and "model_args" in content:
        return asteroid.convert(content, path)
    if "mask_generator.input_norm.weight" in content:
        raise CheckpointError(
            f"{path}: a state dict of torchaudio's ConvTasNet, which does not tell its masks, rate and blocks in a "
            "repeat: give them to separator.zoo.foreign.torchaudio.convert, and keep the network with separator.save"
        )
    found = ", ".join(repr(name)[:40] for name in list(content)[:3])
    raise CheckpointError(
        f"{path}: not a separator checkpoint, and no file of asteroid's ({found or 'nothing'} is in it); expected one "
        "with model_name, model_args and state_dict, or for SpeechBrain's models their folder"
    )
