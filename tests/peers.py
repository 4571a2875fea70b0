"""Networks of other projects, reimplemented from their formulas, with the parameter names of their files."""

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-8


class Norm(nn.Module):
    """Norm of `[batch, channel, frame]`. `shape` is the shape of its parameters in the file."""

    def __init__(self, kind, channels, shape):
        super().__init__()
        self.kind = kind
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x):
        if self.kind == "cgLN":
            count = x.shape[1] * torch.arange(1, x.shape[2] + 1, dtype=x.dtype)
            mean = x.sum(1, keepdim=True).cumsum(2) / count
            variance = x.square().sum(1, keepdim=True).cumsum(2) / count - mean.square()
        else:
            axes = {"gLN": (1, 2), "cLN": (1,)}[self.kind]
            mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        return self.gamma.reshape(-1, 1) * (x - mean) / (variance + EPS).sqrt() + self.beta.reshape(-1, 1)


class Chop(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x[..., : -self.size]


class Activation(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, scores):
        return torch.softmax(scores, 1) if self.name == "softmax" else getattr(torch, self.name)(scores)


class Filterbank(nn.Module):
    def __init__(self, filters, length):
        super().__init__()
        self.filterbank = nn.Module()
        self.filterbank._filters = nn.Parameter(0.3 * torch.randn(filters, 1, length))


class AsteroidBlock(nn.Module):
    def __init__(self, bottleneck, hidden, skip, taps, dilation, norm, causal):
        super().__init__()
        reach = (taps - 1) * dilation
        padding = reach if causal else reach // 2
        along = nn.Conv1d(hidden, hidden, taps, padding=padding, dilation=dilation, groups=hidden)
        self.shared_block = nn.Sequential(
            nn.Conv1d(bottleneck, hidden, 1),
            nn.PReLU(),
            Norm(norm, hidden, [hidden]),
            nn.Sequential(along, Chop(padding)) if causal else along,
            nn.PReLU(),
            Norm(norm, hidden, [hidden]),
        )
        self.res_conv = nn.Conv1d(hidden, bottleneck, 1)
        if skip:
            self.skip_conv = nn.Conv1d(hidden, skip, 1)


class AsteroidConvTasNet(nn.Module):
    """ConvTasNet of asteroid 0.4 to 0.7. `file` returns the content of its checkpoint."""

    def __init__(self, **arguments):
        super().__init__()
        self.arguments = dict(
            fb_name="FreeFB",
            n_filters=24,
            kernel_size=16,
            stride=8,
            sample_rate=8000.0,
            in_chan=24,
            out_chan=24,
            bn_chan=8,
            hid_chan=12,
            skip_chan=10,
            conv_kernel_size=3,
            n_blocks=3,
            n_repeats=2,
            n_src=2,
            norm_type="gLN",
            mask_act="relu",
            causal=False,
            encoder_activation=None,
        )
        self.arguments |= arguments
        a = self.arguments
        self.encoder = Filterbank(a["n_filters"], a["kernel_size"])
        self.decoder = Filterbank(a["n_filters"], a["kernel_size"])
        self.masker = nn.Module()
        self.masker.bottleneck = nn.Sequential(
            Norm(a["norm_type"], a["n_filters"], [a["n_filters"]]), nn.Conv1d(a["n_filters"], a["bn_chan"], 1)
        )
        self.masker.TCN = nn.ModuleList(
            AsteroidBlock(
                a["bn_chan"],
                a["hid_chan"],
                a["skip_chan"],
                a["conv_kernel_size"],
                2 ** (index % a["n_blocks"]),
                a["norm_type"],
                a["causal"],
            )
            for index in range(a["n_blocks"] * a["n_repeats"])
        )
        self.masker.mask_net = nn.Sequential(
            nn.PReLU(), nn.Conv1d(a["skip_chan"] or a["bn_chan"], a["n_src"] * a["n_filters"], 1)
        )

    def forward(self, mixture):
        a = self.arguments
        coefficients = F.conv1d(mixture[:, None], self.encoder.filterbank._filters, stride=a["stride"])
        if a["encoder_activation"] == "relu":
            coefficients = coefficients.relu()
        features = self.masker.bottleneck(coefficients)
        skips = 0.0
        for block in self.masker.TCN:
            hidden = block.shared_block(features)
            features = features + block.res_conv(hidden)
            skips = skips + block.skip_conv(hidden) if a["skip_chan"] else features
        scores = self.masker.mask_net(skips).unflatten(1, (a["n_src"], -1))
        masked = Activation(a["mask_act"])(scores) * coefficients[:, None]
        stems = F.conv_transpose1d(masked.flatten(0, 1), self.decoder.filterbank._filters, stride=a["stride"])
        stems = stems.view(len(mixture), a["n_src"], -1)
        return F.pad(stems, (0, mixture.shape[-1] - stems.shape[-1]))

    def file(self, **changes):
        content = {"model_name": "ConvTasNet", "state_dict": self.state_dict(), "model_args": self.arguments}
        versions = {"torch_version": torch.__version__, "asteroid_version": "0.4.5"}
        return content | {"infos": {"software_versions": versions}} | changes


def _named(**children):
    """A module with children of these names, run in order."""
    return nn.Sequential(torch.nn.modules.container.OrderedDict(children))


class Pointwise(nn.Module):
    """SpeechBrain's Conv1d without bias. Its "same" padding mirrors the signal."""

    def __init__(self, inputs, outputs, taps=1, dilation=1, groups=1):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, taps, dilation=dilation, groups=groups, bias=False)
        self.reach = (taps - 1) * dilation // 2

    def forward(self, x):
        return self.conv(F.pad(x, (self.reach, self.reach), mode="reflect") if self.reach else x)


class SpeechBrainMaskNet(nn.Module):
    """lobes.models.conv_tasnet.MaskNet of SpeechBrain 0.5 to 1.1, with ReLU masks."""

    def __init__(self, filters, bottleneck, hidden, taps, blocks, repeats, sources, norm):
        super().__init__()
        self.sources = sources
        self.layer_norm = Norm("cLN", filters, [1, 1, filters])
        self.bottleneck_conv1x1 = Pointwise(filters, bottleneck)
        self.temporal_conv_net = nn.ModuleDict()
        for repeat in range(repeats):
            for block in range(blocks):
                separable = _named(
                    conv_0=Pointwise(hidden, hidden, taps, 2**block, hidden),
                    act=nn.PReLU(),
                    act_0=Norm(norm, hidden, [1, 1, hidden]),
                    conv_1=Pointwise(hidden, bottleneck),
                )
                layers = _named(
                    conv=Pointwise(bottleneck, hidden),
                    act=nn.PReLU(),
                    norm=Norm(norm, hidden, [1, 1, hidden]),
                    DSconv=separable,
                )
                self.temporal_conv_net[f"temporalblock_{repeat}_{block}"] = _named(layers=layers)
        self.mask_conv1x1 = Pointwise(bottleneck, sources * filters)

    def forward(self, coefficients):
        """`[batch, filter, frame]` -> `[batch, source, filter, frame]`."""
        features = self.bottleneck_conv1x1(self.layer_norm(coefficients))
        for block in self.temporal_conv_net.values():
            features = features + block(features)
        return self.mask_conv1x1(features).relu().unflatten(1, (self.sources, -1))


class SpeechBrainRecipe(nn.Module):
    """The network of SpeechBrain's recipes: dual_path.Encoder, MaskNet, dual_path.Decoder."""

    def __init__(self, sources=2, norm="gLN", filters=24, length=16):
        super().__init__()
        self.stride = length // 2
        self.encoder = nn.Module()
        self.encoder.conv1d = nn.Conv1d(1, filters, length, stride=self.stride, bias=False)
        self.masknet = SpeechBrainMaskNet(filters, 8, 12, 3, 3, 2, sources, norm)
        self.decoder = nn.ConvTranspose1d(filters, 1, length, stride=self.stride, bias=False)

    def forward(self, mixture):
        coefficients = self.encoder.conv1d(mixture[:, None]).relu()
        masks = self.masknet(coefficients)
        stems = [self.decoder(coefficients * mask)[:, 0] for mask in masks.unbind(1)]
        stems = torch.stack(stems, 1)
        return F.pad(stems, (0, mixture.shape[-1] - stems.shape[-1]))


class SpeechBrainOwn(SpeechBrainRecipe):
    """The network with the Encoder and the Decoder from the MaskNet's module."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        filters, _, length = self.encoder.conv1d.weight.shape
        del self.encoder.conv1d
        self.encoder.conv1d_U = nn.Module()
        self.encoder.conv1d_U.conv = nn.Conv1d(1, filters, length, stride=self.stride, bias=False)
        self.decoder = nn.Module()
        self.decoder.basis_signals = nn.Module()
        self.decoder.basis_signals.w = nn.Linear(filters, length, bias=False)

    def forward(self, mixture):
        conv = self.encoder.conv1d_U.conv
        edge = conv.kernel_size[0] // 2
        coefficients = conv(F.pad(mixture[:, None], (edge, edge), mode="reflect")).relu()
        masked = self.masknet(coefficients) * coefficients[:, None]
        basis = self.decoder.basis_signals.w.weight.T[:, None]
        stems = F.conv_transpose1d(masked.flatten(0, 1), basis, stride=self.stride)
        stems = stems.view(len(mixture), masked.shape[1], -1)
        return F.pad(stems, (0, mixture.shape[-1] - stems.shape[-1]))


HYPERPARAMS = """
# Generated 2022-01-01 from hparams/convtasnet.yaml
sample_rate: {rate}
num_spks: 2
norm: {norm}
Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: 16
    out_channels: 24
MaskNet: !new:speechbrain.lobes.models.{masknet}
    N: 24
    B: 8
    H: 12
    P: 3
    X: 3
    R: 2
    C: !ref <num_spks>
    norm_type: !ref <norm>
    causal: {causal}
    mask_nonlinear: {mask}
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: 24
modules:
    encoder: !ref <Encoder>
    masknet: !ref <MaskNet>
    decoder: !ref <Decoder>
optimizer: !name:torch.optim.Adam
    lr: 0.001
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        masknet: !ref <MaskNet>
    paths:
        - !apply:os.system
          - touch {ran}
"""


def perturbed(net, seed=0):
    """Perturb the initial weights, which are the same for all norms and PReLUs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


def write_speechbrain(net, folder, norm="gLN", masknet="conv_tasnet.MaskNet", causal=False, mask="relu", rate=8000):
    """Write the files of a SpeechBrain recipe's model on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("encoder", "masknet", "decoder"):
        torch.save(getattr(net, part).state_dict(), folder / f"{part}.ckpt")
    settings = {"norm": norm, "masknet": masknet, "causal": causal, "mask": mask, "rate": rate}
    (folder / "hyperparams.yaml").write_text(HYPERPARAMS.format(**settings, ran=folder / "ran"))
    return folder
