"""A hub that does not answer is asked once, quietly, and the switches are put back."""

import logging

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from tunnelscope import hub_access
from tunnelscope.hub_access import NO_ANSWER, hub_asked_once


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The hub at a port of this machine where nobody listens; what was asked of it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    addresses = []
    answers = hub_access._answers

    def counted(address):
        addresses.append(address)
        return answers(address)

    monkeypatch.setattr(hub_access, "_answers", counted)
    return addresses


def test_a_hub_that_does_not_answer_is_asked_once(asked, capsys):
    with hub_asked_once() as no_answer:
        assert no_answer == NO_ANSWER
        assert constants.is_offline_mode()
        with pytest.raises(LocalEntryNotFoundError):
            hf_hub_download("nobody/nothing", "model.safetensors")
    assert asked == ["http://127.0.0.1:9"]
    assert not constants.is_offline_mode()
    assert capsys.readouterr().err == ""


def test_a_hub_that_answers_is_used_as_ever(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_access, "_answers", lambda address: True)
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    with hub_asked_once() as no_answer:
        assert no_answer == ""
        assert not constants.is_offline_mode()
    assert logger.level == before


def test_told_to_be_offline_it_stays_so_and_errors_put_the_switch_back(monkeypatch, asked):
    with pytest.raises(KeyError), hub_asked_once():
        raise KeyError
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_asked_once() as no_answer:
        assert no_answer == NO_ANSWER
    assert constants.HF_HUB_OFFLINE
