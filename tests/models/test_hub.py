"""The Hugging Face hub without a network: files that were not kept are absent at once."""

from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from mde.models.weights import hub_within_reach


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As on a user's machine: nobody asked for the hub's offline mode, and no proxy is set."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("mde.models.weights.getproxies", dict)
    return monkeypatch


def _no_address(*_: object) -> None:
    raise socket.gaierror(-2, "Name or service not known")


def test_without_an_address_nothing_is_tried(online: pytest.MonkeyPatch) -> None:
    online.setattr(socket, "getaddrinfo", _no_address)
    online.setattr("time.sleep", lambda _: pytest.fail("the hub's library waits for another try"))
    with hub_within_reach(), pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("owner/name", "config.json", cache_dir="/nonexistent")
    assert constants.HF_HUB_OFFLINE is False
    with hub_within_reach():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False


def test_a_host_with_an_address_is_asked(online: pytest.MonkeyPatch) -> None:
    online.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with hub_within_reach():
        assert constants.HF_HUB_OFFLINE is False


def test_a_proxy_may_know_the_address(online: pytest.MonkeyPatch) -> None:
    online.setattr(socket, "getaddrinfo", _no_address)
    online.setattr("mde.models.weights.getproxies", lambda: {"https": "http://proxy:3128"})
    with hub_within_reach():
        assert constants.HF_HUB_OFFLINE is False


def test_who_asked_for_offline_stays_so(online: pytest.MonkeyPatch) -> None:
    online.setattr(constants, "HF_HUB_OFFLINE", True)
    online.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with hub_within_reach():
        assert constants.HF_HUB_OFFLINE is True
