"""What an OOD set shares with the network's own data: names of classes, and images it was trained on.

A set that shares either is not wholly other data: what its probes keep is partly what the network was taught.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunnelscope.data import DataSet, Split, place_of
from tunnelscope.health import FEW_LIKE, SHOWN
from tunnelscope.tasks import REGRESSION

Pairs = list[tuple[int, int]]

EXAMPLES = 3  # pairs of images named in `run.json`
NUMBERING = re.compile(r"^\d+\.(?=\D)")  # "001.ak47", "017.Cardinal": a number of the set's own, then a name
NUMBERED = re.compile(r"(class|label|category)? ?-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Leakage:
    """What an OOD set shares with the ID set.

    Attributes:
        id_key: of the ID set.
        kind: what the rows are, "images", "texts" or "rows".
        n_test: test rows of the OOD set.
        shared_classes: classes that both have, each as the ID set and as the OOD set writes it; None where
            one of them has no names.
        equal: test rows that equal a training row of the ID set, each with that one: (test, train); None
            where rows were not compared.
        like: test rows that only look like one; None where there is nothing to see that by.
        equal_train: how many training rows equal a training row of the ID set; None where not compared.
        examples: the first pairs in words.
    """

    id_key: str
    kind: str
    n_test: int
    shared_classes: tuple[tuple[str, str], ...] | None
    equal: Pairs | None = None
    like: Pairs | None = None
    equal_train: int | None = None
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def share(self) -> float | None:
        """Test rows that equal or nearly equal a training row of the ID set, as a share of all."""
        return None if self.equal is None else len(self.equal + (self.like or [])) / max(self.n_test, 1)

    @property
    def reasons(self) -> list[str]:
        """Why the set is not wholly other data, a line each; empty where nothing says so."""
        reasons = []
        if self.shared_classes:
            names = [own for own, _ in self.shared_classes]
            many = f"{len(names)} class{'es' if len(names) > 1 else ''}"
            listed = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            reasons.append(f"shares {many} with {self.id_key} ({listed})")
        if self.share is not None and self.share > FEW_LIKE:
            reasons.append(
                f"{self.share:.1%} of its test {self.kind} equal or nearly equal training {self.kind} of "
                f"{self.id_key}"
            )
        return reasons

    def as_dict(self) -> dict[str, Any]:
        """The set's entry in `leakage` of `run.json`."""
        shared = self.shared_classes
        return {
            "shared_classes": None if shared is None else [list(pair) for pair in shared],
            "n_test": self.n_test,
            "equal": None if self.equal is None else len(self.equal),
            "like": None if self.like is None else len(self.like),
            "equal_train": self.equal_train,
            "share": self.share,
            "examples": [list(pair) for pair in self.examples],
            "is_leaking": bool(self.reasons),
            "reasons": self.reasons,
        }


def leakage_of(
    own: DataSet, other: DataSet, equal: Pairs | None, like: Pairs | None, equal_train: int | None
) -> Leakage:
    """What two sets share, from pairs of their rows that are equal or alike.

    Args:
        own, other: the ID set, and an OOD set.
        equal, like, equal_train: as in `Leakage`.
    """
    pairs = [*(equal or []), *(like or [])][:EXAMPLES]
    named = tuple((place_of(other.test.images, row), place_of(own.train.images, twin)) for row, twin in pairs)
    return Leakage(
        own.key,
        other.test.kind,
        len(other.test),
        _shared(own, other),
        equal,
        like,
        equal_train,
        named,
    )


def _shared(own: DataSet, other: DataSet) -> tuple[tuple[str, str], ...] | None:
    """Classes of both sets; None where labels are numbers to predict, which have no classes."""
    if REGRESSION in (own.task, other.task):
        return None
    return shared_classes(own.class_names, other.class_names)


def shared_classes(own: Sequence[str], other: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Names of classes that two sets share, each as both write it; None where one set has no names.

    Names are compared whole, without regard to case, hyphens and underscores; of one that lists synonyms with
    commas ("tench, Tinca tinca") any may be shared. Numbers ("0", "class 3") are no names.
    """
    known: dict[str, str] = {synonym: name for name in reversed(own) for synonym in synonyms(name)}
    asked = {name: synonyms(name) for name in other}
    if not known or not any(asked.values()):
        return None
    found = {name: [known[one] for one in spoken if one in known] for name, spoken in asked.items()}
    return tuple((names[0], name) for name, names in found.items() if names)


def synonyms(name: str) -> list[str]:
    """The names that a class goes by, in the form in which they are compared; none of a numbered class."""
    spoken = (re.sub(r"[\s_-]+", " ", NUMBERING.sub("", part.strip())) for part in str(name).split(","))
    spoken = (part.strip().casefold() for part in spoken)
    return [part for part in spoken if part and not NUMBERED.fullmatch(part)]


def first_pair(test: Split, train: Split, pairs: Sequence[tuple[int, int]]) -> str:
    """The first pair of rows in words; empty where there is none."""
    if not pairs:
        return ""
    row, twin = pairs[0]
    return f"{place_of(test.images, row)} and {place_of(train.images, twin)}"
