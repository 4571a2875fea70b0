"""Models from elsewhere: the Hugging Face hub by huggingface_hub, torchaudio's by its pipelines, in their caches.

Both give what is in the cache where there is no network, or HF_HUB_OFFLINE=1 forbids it. What is asked for is looked at
before it is loaded: small descriptions first, weights only of what can be used, then their checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.error import URLError

from separator.errors import CheckpointError, ConfigError, SeparatorError, choose, first_line
from separator.models import ConvTasNet
from separator.zoo import checkpoint, foreign

# An entry of the cache whose content is known by its checksum is named so.
SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
# torchaudio waits for an answer as long as Python does: for ever, if nobody says otherwise.
TIMEOUT_SECONDS = 30.0
# Of `conv_tasnet_base`, which its bundles are made with: blocks in a repeat.
BUNDLE_BLOCKS = 8


def fetch(name: str) -> Path:
    """The model in the repository OWNER/NAME of the hub, or OWNER/NAME@REVISION, in the cache: its file or folder.

    Separator's own, asteroid's, or the folder of SpeechBrain's.

    Raises:
        ConfigError: if there is no such repository.
        CheckpointError: if it cannot be reached, holds another kind of model, or its files are damaged.
    """
    repository = _Repository(name)
    if (description := repository.get("config.json")) is not None and check_description(description, f"hf:{name}"):
        return repository.need("model.safetensors")
    if (settings := repository.get("hyperparams.yaml")) is not None:
        foreign.speechbrain.read_hyperparams(settings)
        for part in foreign.speechbrain.PARTS:
            repository.need(f"{part}.ckpt")
        return settings.parent
    for file in ("model.safetensors", "pytorch_model.bin"):
        if (path := repository.get(file)) is not None:
            return path
    raise repository.missing(
        "holds neither model.safetensors (separator's), nor pytorch_model.bin (asteroid's), nor hyperparams.yaml with "
        "encoder.ckpt, masknet.ckpt and decoder.ckpt (SpeechBrain's)"
    )


def check_description(path: Path, where: str) -> bool:
    """Whether a config.json is of this project; False if it does not say.

    Raises:
        CheckpointError: if it is of another one, or of a newer version.
    """
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: config.json is damaged ({first_line(error)}); get it again") from error
    if not isinstance(facts, dict):
        return False
    if facts.get("format") == checkpoint.FORMAT:
        checkpoint.check_facts(facts, where)
        return True
    kind = facts.get("model_type", facts.get("architectures"))
    if kind is not None:
        raise CheckpointError(f"{where}: a model of another kind ({str(kind)[:60]!r}); separator has Conv-TasNets only")
    return False


class _Repository:
    """Files of a repository of the hub, in huggingface_hub's cache."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Importing it takes a while.
        from huggingface_hub import errors, utils

        self._id, at, revision = name.partition("@")
        self._revision = revision or None
        self._unreachable = ""
        try:
            utils.validate_repo_id(self._id)
        except errors.HFValidationError:
            self._id = ""
        if self._id.count("/") != 1 or (at and not revision):
            raise ConfigError(f"hf:{name}: not a repository's name; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")

    def get(self, file: str) -> Path | None:
        """The path of a file, got if it was not there; None if there is none, or none in the cache and no network."""
        from huggingface_hub import errors, hf_hub_download

        try:
            if not self._unreachable:
                self._check_size(file)
            path = Path(
                hf_hub_download(self._id, file, revision=self._revision, local_files_only=bool(self._unreachable))
            )
        except errors.LocalEntryNotFoundError as error:  # a kind of the next
            if self._unreachable:
                return None
            raise CheckpointError(
                f"hf:{self.name}: {file} could not be downloaded ({first_line(error.__cause__ or error)}); try again"
            ) from error
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError as error:
            raise CheckpointError(
                f"hf:{self.name}: its owner wants you to agree to something first: do so at https://huggingface.co/"
                f"{self._id}, then run hf auth login"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise ConfigError(
                f"hf:{self.name}: there is no such model on the hub, or it is private; check the name, or run "
                "hf auth login"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise ConfigError(f"hf:{self.name}: the model has no such revision") from error
        except SeparatorError:
            raise
        except Exception as error:  # of the network, of the file system, or of the hub
            raise CheckpointError(
                f"hf:{self.name}: {file} could not be downloaded ({first_line(error)}); try again"
            ) from error
        _check_sum(path, f"hf:{self.name}: {file}")
        return path

    def need(self, file: str) -> Path:
        """The path of a file. Raises `CheckpointError` if it cannot be had."""
        path = self.get(file)
        if path is None:
            raise self.missing(f"{file} is missing in it")
        return path

    def missing(self, what: str) -> CheckpointError:
        """The error for a file that is not there: or, without a network, not here."""
        if not self._unreachable:
            return CheckpointError(f"hf:{self.name}: {what}")
        return CheckpointError(
            f"hf:{self.name}: not in the cache, and the hub cannot be reached ({self._unreachable}); connect once, or "
            "copy the model's files here and give their folder"
        )

    def _check_size(self, file: str) -> None:
        """Asks the hub for a file's size, before it is downloaded; notices if it cannot be asked.

        Raises:
            CheckpointError: if it is too large to be a Conv-TasNet's.
            huggingface_hub's errors: if there is no such file, revision or repository.
        """
        import huggingface_hub
        from huggingface_hub import errors

        url = huggingface_hub.hf_hub_url(self._id, file, revision=self._revision)
        try:
            size = huggingface_hub.get_hf_file_metadata(url).size or 0
        except errors.OfflineModeIsEnabled:
            self._unreachable = "HF_HUB_OFFLINE is set"
        except (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise
        except Exception as error:  # no network, no answer in time, an answer that is none
            self._unreachable = first_line(error)
        else:
            if size > foreign.MAX_BYTES:
                raise CheckpointError(
                    f"hf:{self.name}: {file} has {size / 2**20:.0f} MB, as no Conv-TasNet has; not downloaded"
                )


def _check_sum(path: Path, what: str) -> None:
    """Compares a file of the cache with the checksum that it is stored under; a damaged one is taken out of the cache.

    Large files are stored under their SHA-256, small ones under git's name: a SHA-1 of their length and content.

    Raises:
        CheckpointError: if they differ.
    """
    stored = path.resolve()
    content = stored.read_bytes()
    if SHA256.fullmatch(stored.name):
        found = hashlib.sha256(content).hexdigest()
    elif GIT_SHA1.fullmatch(stored.name):
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    else:
        return
    if found != stored.name:
        for entry in (path, stored):
            entry.unlink(missing_ok=True)
        raise CheckpointError(
            f"{what} was damaged: its checksum is {found[:12]}..., the hub's {stored.name[:12]}...; it was taken out "
            "of the cache: run the same again to get it anew"
        )


def load_torchaudio(name: str) -> ConvTasNet:
    """The network of a bundle of `torchaudio.pipelines`, such as "CONVTASNET_BASE_LIBRI2MIX".

    Raises:
        ConfigError: if torchaudio cannot be imported, or has no such Conv-TasNet.
        CheckpointError: if it cannot be downloaded, or is damaged.
    """
    try:
        from torchaudio import pipelines
    except (ImportError, OSError, RuntimeError) as error:  # its binary goes with one torch only
        raise ConfigError(
            f"torchaudio:{name} needs torchaudio, which cannot be imported here ({first_line(error)}); install the "
            "release that goes with this torch: pip install 'separator[torchaudio]'"
        ) from error
    bundles = {item: getattr(pipelines, item) for item in dir(pipelines) if item.startswith("CONVTASNET")}
    bundle = choose("Conv-TasNet of torchaudio", name, bundles)
    cached = _torchaudio_cache(bundle)
    if _wants_offline() and not cached.is_file():
        raise CheckpointError(f"torchaudio:{name}: not in the cache ({cached}), and HF_HUB_OFFLINE is set")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        net = bundle.get_model()
    except (URLError, TimeoutError) as error:
        raise CheckpointError(
            f"torchaudio:{name}: it cannot be downloaded ({first_line(error)}); connect once, it is kept in {cached}"
        ) from error
    except Exception as error:  # torch raises many kinds for a damaged file, and has much to say of it
        if not cached.is_file():
            raise CheckpointError(f"torchaudio:{name}: {cached} cannot be written ({first_line(error)})") from error
        raise CheckpointError(f"torchaudio:{name}: {cached} is damaged; remove it and run the same again") from error
    finally:
        socket.setdefaulttimeout(before)
    mask = type(net.mask_generator.mask_activate).__name__.lower()
    return foreign.torchaudio.convert(net.state_dict(), f"torchaudio:{name}", bundle.sample_rate, BUNDLE_BLOCKS, mask)


def _torchaudio_cache(bundle: Any) -> Path:
    """Where torchaudio keeps a bundle's weights."""
    import torch

    return Path(torch.hub.get_dir(), "torchaudio", getattr(bundle, "_model_path", ""))


def _wants_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
