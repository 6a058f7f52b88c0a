"""Weights for an encoder: from a file on disk, or downloaded once by name.

A file of another project is only taken when every tensor of the encoder is in it, under its own name and with its own
shape: an encoder that is half random looks like a bad method and costs days.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from mde.errors import CheckpointError
from mde.rebuild import rebuilding

__all__ = ["PRETRAINED", "hub_within_reach", "load_file", "obtain", "read_state_dict"]

PRETRAINED = "pretrained"
_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")


def obtain(
    make: Callable[[bool], nn.Module], name: str, weights: str | None, rename: Callable[[str], str] = str
) -> nn.Module:
    """Make a network with the weights that were asked for; inside `mde.rebuild.without_weights` with none.

    Args:
        make: makes the network; its argument says whether to download the weights that belong to the name.
        name: of the network, for messages.
        weights: None (random), "pretrained", or a file.
        rename: brings keys of the file and of the network to a common form.

    Raises:
        CheckpointError: the download failed, or the file does not fit.
    """
    # jsonargparse hands a nested flag's null over as the word "None"
    if weights in (None, "None") or rebuilding():
        return make(False)
    if weights == PRETRAINED:
        return _download(make, name)
    net = make(False)
    load_file(net, weights, name, rename)
    return net


@contextmanager
def hub_within_reach() -> Iterator[None]:
    """While files of the Hugging Face hub are asked for: without a network, those not kept from before are absent at
    once. Its library would try each five times, some forty seconds long."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _has_address(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _has_address(url: str) -> bool:
    """A host that has none cannot be reached, but for a proxy that finds it."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


def _download(make: Callable[[bool], nn.Module], name: str) -> nn.Module:
    try:
        with hub_within_reach():
            return make(True)
    # URLError, ConnectionError and the hub's errors are OSErrors; a broken file or an unknown tag is one of the others
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the pretrained weights of {name} could not be downloaded ({_first_line(error)})",
            next_action="run once with a network (they are then cached), give a weights file, or set weights: null",
        ) from error


def load_file(net: nn.Module, path: str | Path, name: str, rename: Callable[[str], str] = str) -> None:
    """Fill a network from a state-dict file; keys of the file that the network has not (a classifier) are left out.

    Args:
        net: is changed in place.
        path: ``.pth`` or ``.pt`` (read with ``weights_only=True``) or ``.safetensors``.
        name: of the network, for messages.
        rename: brings keys of the file and of the network to a common form.

    Raises:
        CheckpointError: no such file, not a state dict, or tensors are missing: says how many match.
    """
    wanted = net.state_dict()
    keys = {rename(key): key for key in wanted}
    found: dict[str, Tensor] = {}
    for key, value in read_state_dict(path).items():
        own = keys.get(rename(key.removeprefix("module.")))  # the prefix is DataParallel's
        if own is not None and value.shape == wanted[own].shape:
            found[own] = value
    # files from before PyTorch 0.4.1 have no batch counters, and nothing reads them at a fixed momentum
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    missing = [key for key in needed if key not in found]
    if missing:
        raise CheckpointError(
            f"not the weights of {name}: {len(needed) - len(missing)} of {len(needed)} tensors match by name and "
            f"shape, the first that does not is {missing[0]}",
            where=path,
            next_action=f"give a state dict of {name}, or the name that belongs to this file",
        )
    net.load_state_dict(found, strict=False)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state-dict file, also where it is wrapped as ``{"state_dict": …}`` or ``{"model": …}``.

    Raises:
        CheckpointError: no such file, unreadable, or it holds no tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(
            "no such weights file",
            where=path,
            next_action=f"give a file ({', '.join(_SUFFIXES)}), 'pretrained' to download, or null for random weights",
        )
    try:
        content = _read(file)
    except Exception as error:  # there is no end to what an unpickler raises on bytes that are no pickle
        raise CheckpointError(
            f"not a readable weights file ({_first_line(error)})", where=path, next_action="copy or download it again"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError("this file holds no state dict", where=path, next_action="save model.state_dict()")
    return tensors


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file as load_safetensors

        return cast(Any, load_safetensors(file))
    return torch.load(file, map_location="cpu", weights_only=True)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
