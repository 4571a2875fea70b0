"""Convert Conv-TasNets of other projects: the same weights, the same output.

Supported are asteroid's files, torchaudio's networks, and the folders of SpeechBrain's recipes. If a network has a
feature that ours does not have, the error names it. Nothing in a file is run: only tensors and plain values are read.
"""

from __future__ import annotations

from pathlib import Path

from separator.errors import CheckpointError
from separator.models import ConvTasNet
from separator.zoo.foreign import asteroid, speechbrain, torchaudio
from separator.zoo.foreign.reading import MAX_BYTES, read_tensors

__all__ = ["MAX_BYTES", "asteroid", "load_file", "speechbrain", "torchaudio"]


def load_file(path: Path) -> ConvTasNet:
    """Load the network in a file from asteroid.

    Raises:
        CheckpointError: if it is damaged, holds more than tensors and plain values, or is another network.
    """
    content = read_tensors(path)
    if "model_name" in content and "model_args" in content:
        return asteroid.convert(content, path)
    if "mask_generator.input_norm.weight" in content:
        raise CheckpointError(
            f"{path}: a state dict of torchaudio's ConvTasNet, which does not contain its masks, rate and blocks in a "
            "repeat; give them to separator.zoo.foreign.torchaudio.convert, and store the network with separator.save"
        )
    found = ", ".join(repr(name)[:40] for name in list(content)[:3])
    raise CheckpointError(
        f"{path}: not a separator checkpoint, and not an asteroid file (it contains {found or 'nothing'}); expected "
        "model_name, model_args and state_dict; for a SpeechBrain model give its folder"
    )
