"""What can go wrong for a user, each error with the exit code the command line ends with."""

import difflib
from collections.abc import Iterable


class TunnelscopeError(Exception):
    """Base of every error meant for a user: one line that says what, where and what to do."""

    exit_code = 2


class RequestError(TunnelscopeError, ValueError):
    """The request cannot be met as asked: bad argument, unknown name, unreadable input."""

    exit_code = 2


class MachineError(TunnelscopeError):
    """The machine cannot do it: memory, disk, device, or a hub that does not answer."""

    exit_code = 3


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> RequestError:
    """Say that `name` is no `kind`, with the nearest of the known names and what to do.

    Args:
        kind: what the name should have named, in the singular ("layer", "class").
        name: the name as the user gave it.
        known: the names there are.
        hint: a last sentence, such as the command that lists them all.
    """
    known = [str(candidate) for candidate in known]
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if nearest:
        near = f"; nearest: {', '.join(nearest)}."
    elif known:
        shown = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
        near = f"; there {'is' if len(known) == 1 else 'are'}: {shown}."
    else:
        near = "; there are none."
    return RequestError(f"no {kind} named {name!r}{near} {hint}".rstrip())
