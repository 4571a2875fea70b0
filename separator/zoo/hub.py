"""Models from the Hugging Face hub (with huggingface_hub) and from torchaudio's pipelines, through their caches.

Without a network, or with HF_HUB_OFFLINE=1, both use what is in the cache. Files are checked before they are loaded:
first the small description, then the weights of supported models only, then their checksum.
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

# Names of files in the cache that are the checksum of their content.
SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
# torchaudio sets no timeout of its own, and Python's default is to wait for ever.
TIMEOUT_SECONDS = 30.0
# Blocks in a repeat of `conv_tasnet_base`, with which torchaudio's bundles are made.
BUNDLE_BLOCKS = 8


def fetch(name: str) -> Path:
    """Get a model from the hub's repository OWNER/NAME or OWNER/NAME@REVISION. Returns its file or folder in the cache.

    Supported are separator's own files, asteroid's files, and SpeechBrain's folders.

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
        "no model found; expected model.safetensors (separator), pytorch_model.bin (asteroid), or hyperparams.yaml "
        "with encoder.ckpt, masknet.ckpt and decoder.ckpt (SpeechBrain)"
    )


def check_description(path: Path, where: str) -> bool:
    """Tell whether a config.json is from this project. Returns False if it names no kind of model.

    Raises:
        CheckpointError: if it is from another project, or from a newer version.
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
        raise CheckpointError(
            f"{where}: a model of another kind ({str(kind)[:60]!r}); separator only loads Conv-TasNets"
        )
    return False


class _Repository:
    """Files of a repository on the hub, in huggingface_hub's cache."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Imported here, because the import is slow.
        from huggingface_hub import errors, utils

        self._id, at, revision = name.partition("@")
        self._revision = revision or None
        self._unreachable = ""
        try:
            utils.validate_repo_id(self._id)
        except errors.HFValidationError:
            self._id = ""
        if self._id.count("/") != 1 or (at and not revision):
            raise ConfigError(f"hf:{name}: not a repository name; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")

    def get(self, file: str) -> Path | None:
        """Return the path of a file, and download it if needed.

        Returns None if the repository has no such file, or if it is not in the cache and there is no network.
        """
        from huggingface_hub import errors, hf_hub_download

        try:
            if not self._unreachable:
                self._check_size(file)
            path = Path(
                hf_hub_download(self._id, file, revision=self._revision, local_files_only=bool(self._unreachable))
            )
        except errors.LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError
            if self._unreachable:
                return None
            raise CheckpointError(
                f"hf:{self.name}: {file} could not be downloaded ({first_line(error.__cause__ or error)}); try again"
            ) from error
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError as error:
            raise CheckpointError(
                f"hf:{self.name}: this is a gated model; accept its terms at https://huggingface.co/{self._id}, then "
                "run hf auth login"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise ConfigError(
                f"hf:{self.name}: not found on the hub, or private; check the name, or run hf auth login"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise ConfigError(f"hf:{self.name}: the model has no such revision; check the name after @") from error
        except SeparatorError:
            raise
        except Exception as error:  # errors of the network, the file system or the hub
            raise CheckpointError(
                f"hf:{self.name}: {file} could not be downloaded ({first_line(error)}); try again"
            ) from error
        _check_sum(path, f"hf:{self.name}: {file}")
        return path

    def need(self, file: str) -> Path:
        """Return the path of a file. Raise `CheckpointError` if it is not available."""
        path = self.get(file)
        if path is None:
            raise self.missing(f"{file} is missing")
        return path

    def missing(self, what: str) -> CheckpointError:
        """Make the error for a missing file. Without a network, it may only be missing in the cache."""
        if not self._unreachable:
            return CheckpointError(f"hf:{self.name}: {what}")
        return CheckpointError(
            f"hf:{self.name}: not in the cache, and the hub cannot be reached ({self._unreachable}); go online once, "
            "or copy the model's files to this machine and give their folder"
        )

    def _check_size(self, file: str) -> None:
        """Ask the hub for a file's size before it is downloaded. Note if the hub cannot be reached.

        Raises:
            CheckpointError: if it is too large for a Conv-TasNet.
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
        except Exception as error:  # no network, a timeout, or an invalid answer
            self._unreachable = first_line(error)
        else:
            if size > foreign.MAX_BYTES:
                raise CheckpointError(
                    f"hf:{self.name}: {file} has {size / 2**20:.0f} MB, too large for a Conv-TasNet; not downloaded"
                )


def _check_sum(path: Path, what: str) -> None:
    """Compare a file in the cache with the checksum in its name. Remove a damaged file from the cache.

    Large files are named after their SHA-256. Small ones have git's name: a SHA-1 of their length and content.

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
            f"{what} was damaged: its checksum is {found[:12]}..., expected {stored.name[:12]}...; it was removed from "
            "the cache, so run the same command again to download it"
        )


def load_torchaudio(name: str) -> ConvTasNet:
    """Load the network of a bundle of `torchaudio.pipelines`, such as "CONVTASNET_BASE_LIBRI2MIX".

    Raises:
        ConfigError: if torchaudio cannot be imported, or has no such Conv-TasNet.
        CheckpointError: if it cannot be downloaded, or is damaged.
    """
    try:
        from torchaudio import pipelines
    except (ImportError, OSError, RuntimeError) as error:  # its binary works with one torch version only
        raise ConfigError(
            f"torchaudio:{name} needs torchaudio, which cannot be imported ({first_line(error)}); install the "
            "release for this torch version: pip install 'separator[torchaudio]'"
        ) from error
    bundles = {item: getattr(pipelines, item) for item in dir(pipelines) if item.startswith("CONVTASNET")}
    bundle = choose("Conv-TasNet of torchaudio", name, bundles)
    cached = _torchaudio_cache(bundle)
    if _wants_offline() and not cached.is_file():
        raise CheckpointError(
            f"torchaudio:{name}: not in the cache ({cached}), and HF_HUB_OFFLINE is set; unset it to download the model"
        )
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        net = bundle.get_model()
    except (URLError, TimeoutError) as error:
        raise CheckpointError(
            f"torchaudio:{name}: cannot be downloaded ({first_line(error)}); go online once to store it in {cached}"
        ) from error
    except Exception as error:  # torch raises many kinds for a damaged file
        if not cached.is_file():
            raise CheckpointError(f"torchaudio:{name}: {cached} cannot be written ({first_line(error)})") from error
        raise CheckpointError(
            f"torchaudio:{name}: {cached} is damaged; remove it and run the same command again"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    mask = type(net.mask_generator.mask_activate).__name__.lower()
    return foreign.torchaudio.convert(net.state_dict(), f"torchaudio:{name}", bundle.sample_rate, BUNDLE_BLOCKS, mask)


def _torchaudio_cache(bundle: Any) -> Path:
    """Return the path where torchaudio keeps a bundle's weights."""
    import torch

    return Path(torch.hub.get_dir(), "torchaudio", getattr(bundle, "_model_path", ""))


def _wants_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
