"""The network and its parts. Feature maps are `[batch, frame, channel]`."""

from separator.models.conv_tasnet import ConvTasNet
from separator.models.tcn import TCN

__all__ = ["TCN", "ConvTasNet"]
