"""What a study's file says of its data sets beside what lies at their sources."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from tunnelscope.data import load_data
from tunnelscope.errors import MachineError, RequestError
from tunnelscope.studies.declaration import Data, Declaration
from tunnelscope.studies.sizes import is_here

AGREES, DIFFERS, UNREADABLE, ABSENT = "agrees", "differs", "cannot be read", "not there"
COUNTED = ("classes", "train", "test")


@dataclass(frozen=True)
class Checked:
    """One data set of a study's file.

    Attributes:
        name, source: as in the file.
        state: `agrees`, `differs`, `cannot be read` or `not there`.
        said: the rest of its line: what differs, or what to do.
        declared: the counts that the file declares.
        found: the counts of the source; empty where it is not there.
    """

    name: str
    source: str
    state: str
    said: str
    declared: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)

    def is_fault(self, strict: bool) -> bool:
        """Whether it fails the check; a set that is not there does so where `strict`."""
        return self.state in (DIFFERS, UNREADABLE) or (strict and self.state == ABSENT)

    def as_dict(self) -> dict[str, Any]:
        """Its entry in `sets` of `--json`."""
        return asdict(self)


def check_data(declared: Declaration, announce: Callable[[str], None] | None = None) -> list[Checked]:
    """Compare the counts that a study's file declares with those of its sources, in the order of the file.

    Labels are read, images are not; a hub id is asked for, which fetches its files.
    """
    return [_checked(name, told, announce) for name, told in declared.data.items()]


def _checked(name: str, told: Data, announce: Callable[[str], None] | None) -> Checked:
    declared: dict[str, int] = {
        count: value for count in COUNTED if (value := getattr(told, count)) is not None
    }
    try:
        data = load_data(told.source, announce=announce)
    except (RequestError, MachineError) as error:
        if is_here(told.source):
            return Checked(name, told.source, UNREADABLE, str(error), declared)
        return Checked(name, told.source, ABSENT, _how_to_get(told, error), declared)
    found: dict[str, int] = {
        "classes": len(data.class_names),
        "train": len(data.train),
        "test": len(data.test),
    }
    differing = [
        f"{count} is {found[count]:,}, the file says {value:,}"
        for count, value in declared.items()
        if found[count] != value
    ]
    if differing:
        return Checked(name, told.source, DIFFERS, ", ".join(differing), declared, found)
    said = f"{found['classes']:,} classes, {found['train']:,} train, {found['test']:,} test"
    undeclared = [count for count in COUNTED if count not in declared]
    if undeclared:
        said += f" ({', '.join(undeclared)} not declared)"
    return Checked(name, told.source, AGREES, said, declared, found)


def _how_to_get(told: Data, error: Exception) -> str:
    """What to do about a set that is not there: where it comes from and goes, else why it was not found."""
    if told.origin is None:
        return str(error)
    place = told.source.partition("?")[0]
    return f"from {told.origin}; put it at {place}, or name another place as its source"
