"""Texts, what a text encoder does to them before it sees them, and batches of them.

A batch holds texts of one length in tokens, so nothing is padded: no mask has to follow the features through
the network's layers, no other text can change them, and no time goes into padding.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tunnelscope.data.dataset import Images
from tunnelscope.data.images import place_of
from tunnelscope.errors import RequestError

AT_ONCE = 1024  # texts given to the tokenizer in one call, which works on them in threads of its own
EXAMPLE_TOKENS = 16  # of the text that shapes, FLOPs and milliseconds are told for


class TextColumn:
    """Rows of an Arrow column of strings.

    Args:
        column: one entry a text.
        rows: each entry's row number in its split, for messages, (n,).
        origin: the set and split, for messages.

    Raises:
        RequestError: a row holds no text (null).
    """

    def __init__(self, column: pa.ChunkedArray, rows: np.ndarray, origin: str) -> None:
        self.column, self.rows, self.origin = column, rows, origin
        if column.null_count:
            missing = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise RequestError(f"{self.place(missing)} holds no text (null); take the row out")

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: int) -> str:
        return self.column[index].as_py()

    def place(self, index: int) -> str:
        """Say which text that is."""
        return f"row {self.rows[index]} of {self.origin}"


@dataclass(frozen=True)
class Tokenisation:
    """What a text encoder does to a text before it sees it.

    Args:
        max_length: most tokens of a text that it takes, special tokens included; the rest is cut off.
        vocabulary: how many different tokens it knows.
        load: gives the fast tokenizer (of transformers); called when the first text is read.
    """

    max_length: int
    vocabulary: int
    load: Callable[[], Any] = field(repr=False, compare=False)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded once."""
        return self.load()

    def signature(self, limit: int) -> str:
        """Return a hash of what decides the tokens of a text that is read up to `limit` tokens."""
        told = self.tokenizer.backend_tokenizer.to_str()
        return hashlib.sha256(f"{limit} {told}".encode()).hexdigest()

    def describe(self) -> str:
        """Say in one line what is done to a text."""
        return f"text, at most {self.max_length:,} tokens of {self.vocabulary:,}"

    def as_dict(self) -> dict[str, Any]:
        """Return what a run's record keeps."""
        return {"max_length": self.max_length, "vocabulary": self.vocabulary}

    def example(self) -> Tensor:
        """Return one random text of 16 tokens, (1, 16) int64, of fewer where it takes no more."""
        count = min(EXAMPLE_TOKENS, self.max_length)
        return torch.randint(self.vocabulary, (1, count), generator=torch.Generator().manual_seed(0))


def token_batches(
    texts: Images,
    tokenisation: Tokenisation,
    *,
    batch_size: int,
    max_length: int | None = None,
    on_text: Callable[[int, str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (rows, tokens), both int64, (b,) and (b, length), the shortest texts first.

    Args:
        texts: of one split.
        tokenisation: the network's.
        batch_size: texts at once, at most.
        max_length: tokens of a text to be read, where the data says it; never more than the network takes.
        on_text: called with (index, text) in order before the first batch.
        warn: called with a line where texts are cut off or hold nothing.

    Raises:
        RequestError: a text that gives no token, or an item that is no text; its place is named.
    """
    limit = min(max_length or tokenisation.max_length, tokenisation.max_length)
    tokens, cut, blank = _tokens(texts, tokenisation, limit, on_text)
    for number, words in ((cut, f"longer than {limit:,} tokens and cut off there"), (blank, "empty")):
        if number and warn:
            warn(f"{number:,} of {len(texts):,} texts are {words}")
    lengths = np.array([len(one) for one in tokens])
    if lengths.min() == 0:
        empty = int(lengths.argmin())
        raise RequestError(f"{place_of(texts, empty)} gives no token: {texts[empty]!r}; take the row out")
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        same = int(np.searchsorted(lengths[order], lengths[order[start]], side="right"))
        rows = order[start : min(same, start + batch_size)]
        yield torch.from_numpy(rows), torch.from_numpy(np.stack([tokens[row] for row in rows])).long()
        start += len(rows)


def _tokens(
    texts: Images, tokenisation: Tokenisation, limit: int, on_text: Callable[[int, str], None] | None
) -> tuple[list[np.ndarray], int, int]:
    """Each text's tokens, int32; how many texts were cut off, and how many hold nothing but blanks."""
    tokens: list[np.ndarray] = []
    cut = blank = 0
    for start in range(0, len(texts), AT_ONCE):
        some = [texts[index] for index in range(start, min(start + AT_ONCE, len(texts)))]
        for index, text in enumerate(some, start=start):
            if not isinstance(text, str):
                raise RequestError(f"{place_of(texts, index)} is no text but a {type(text).__name__}")
            if on_text is not None:
                on_text(index, text)
        encoded = tokenisation.tokenizer(some, truncation=True, max_length=limit, padding=False)
        tokens += [np.array(one, dtype=np.int32) for one in encoded["input_ids"]]
        cut += sum(bool(one.overflowing) for one in encoded.encodings or ())
        blank += sum(not text.strip() for text in some)
    return tokens, cut, blank
