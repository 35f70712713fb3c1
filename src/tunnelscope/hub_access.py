"""The Hugging Face hub asked once: where it does not answer, its libraries read their caches, at once."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 5.0  # to wait for the hub's first answer
NO_ANSWER = "the hub does not answer, and the cache does not hold it"


@contextmanager
def hub_asked_once() -> Iterator[str]:
    """Let Hugging Face's libraries work inside the block without vain retries and their lines.

    They ask five times more for each file, over 23 s, whatever the reason. Where one short question to
    the hub has no answer they are told to be offline, as by HF_HUB_OFFLINE=1: what the cache holds they
    still find.

    Yields:
        Why the hub cannot serve, "" when it answers.
    """
    from huggingface_hub import constants

    answers = _answers(constants.ENDPOINT)
    switches: list[Any] = [constants]
    if "datasets" in sys.modules:  # keeps a copy of its own
        switches.append(sys.modules["datasets"].config)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        for switch in switches:
            switch.HF_HUB_OFFLINE = switch.HF_HUB_OFFLINE or not answers
        yield "" if answers else NO_ANSWER
    finally:
        logger.setLevel(level)
        for switch, was in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = was


def _answers(address: str) -> bool:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(address, timeout=SECONDS)
    except Exception:  # no name, no route, no certificate, told to be offline: each in a class of its own
        return False
    return True
