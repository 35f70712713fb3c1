"""What a data source's query asks for: `data/cifar10?classes=0-4&per_class=100`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from urllib.parse import unquote

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.randomness import numpy_generator
from tunnelscope.tasks import REGRESSION


@dataclass(frozen=True)
class Options:
    """The options of a data source, each by its name in the query."""

    split: tuple[str, ...] = ()
    label: str | None = None
    image: str | None = None
    text: str | None = None
    classes: tuple[str, ...] = ()
    per_class: int | None = None
    max_samples: int | None = None
    size: int | None = None
    config: str | None = None
    group: str | None = None
    max_length: int | None = None
    draws: int | None = None
    draw: int | None = None
    task: str | None = None


RANDOM = re.compile(r"random:(\d+)")  # so many classes drawn with the seed
_NAMES = tuple(field.name for field in fields(Options))


def parse_query(query: str, source: str) -> Options:
    """Read `name=value&name=value`; values may be percent-encoded, lists are separated by commas.

    Args:
        query: what follows the question mark.
        source: the whole, for messages.

    Raises:
        RequestError: an unknown or repeated option, one without a value, a count that is no positive integer.
    """
    values: dict[str, object] = {}
    for item in filter(None, query.split("&")):
        name, _, text = item.partition("=")
        if name not in _NAMES:
            raise unknown_name("data option", name, _NAMES, f"All of them: {', '.join(_NAMES)}.")
        if name in values:
            raise RequestError(f"{source}: {name}= is given twice; give it once")
        if not text:
            raise RequestError(f"{source}: {name}= has no value; write {name}=VALUE or leave it out")
        if name in ("split", "classes"):
            values[name] = tuple(unquote(part).strip() for part in text.split(",") if part.strip())
        elif name in ("per_class", "max_samples", "size", "max_length", "draws", "draw"):
            values[name] = positive(name, unquote(text))
        else:
            values[name] = unquote(text)
    options = Options(**values)  # type: ignore[arg-type]
    if options.task not in (None, REGRESSION):
        raise RequestError(
            f"{source}: task={options.task}: the one task to ask for is {REGRESSION}, which takes integers "
            "as numbers to predict; else the labels tell the task"
        )
    is_random = any(RANDOM.fullmatch(token) for token in options.classes)
    if (options.draws or options.draw) and not is_random:
        raise RequestError(f"{source}: draws= and draw= are of random classes; write classes=random:10 too")
    if options.draws == 1:
        raise RequestError(f"{source}: draws=1 is a single draw; leave it out, or ask for several")
    if options.draws and options.draw:
        raise RequestError(f"{source}: draws= is how many, draw= is one of them; give one of the two")
    if len(options.split) > 2 or len(set(options.split)) < len(options.split):
        raise RequestError(
            f"{source}: split= takes one name, or two different ones: fit on the first, read on the second"
        )
    return options


def positive(name: str, value: object) -> int:
    """Return the count, or say that it must be a positive integer."""
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+", text) or int(text) == 0:
        raise RequestError(f"{name} must be a positive integer, got {text!r}")
    return int(text)


def one_draw(query: str, number: int) -> str:
    """The query of one of the draws that a query with `draws=` asks for."""
    items = [item for item in query.split("&") if item and not item.startswith("draws=")]
    return "&".join([*items, f"draw={number}"])


def choose_classes(
    wanted: Sequence[str], names: Sequence[str], key: str, seed: int = 0, draw: int = 1
) -> list[int]:
    """Return the class numbers that names, numbers and ranges such as `0-4` mean, ascending, each once.

    `random:10`, alone, draws ten with the seed; another `draw` gives ten others.

    An exact name comes first. Where all names are whole numbers (digits), numbers and ranges mean the names.

    Raises:
        RequestError: a name, number or range that is none, with the nearest.
    """
    by_name = {name: index for index, name in enumerate(names)}
    if all(re.fullmatch(r"\d+", name) for name in names):
        by_number = {int(name): index for index, name in enumerate(names)}
    else:
        by_number = {index: index for index in range(len(names))}
    if len(wanted) == 1 and wanted[0] not in by_name and (random := RANDOM.fullmatch(wanted[0])):
        return _drawn(int(random[1]), names, key, seed, draw)
    chosen: set[int] = set()
    for token in wanted:
        if token in by_name:
            chosen.add(by_name[token])
        else:
            chosen.update(_numbered(token, by_number, names, key))
    return sorted(chosen)


def _drawn(count: int, names: Sequence[str], key: str, seed: int, draw: int) -> list[int]:
    if not 2 <= count < len(names):
        raise RequestError(
            f"classes=random:{count}: {key} has {len(names)} classes; draw 2 to {len(names) - 1} of them"
        )
    order = numpy_generator(seed, f"data/classes/{draw}").permutation(len(names))
    return sorted(int(index) for index in order[:count])


def _numbered(token: str, by_number: dict[int, int], names: Sequence[str], key: str) -> list[int]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", token)
    if span is None:
        raise unknown_name(
            "class", token, names, f"Classes of {key} also go by number: classes=0-{len(names) - 1}."
        )
    first, last = int(span[1]), int(span[2] or span[1])
    low, high = min(by_number), max(by_number)
    if first > last:
        raise RequestError(f"class range {token} of {key} runs backwards; write {last}-{first}")
    if first < low or last > high or (span[2] is None and first not in by_number):
        raise RequestError(f"no class {token} in {key}; its classes are numbered {low} to {high}")
    return [index for number, index in by_number.items() if first <= number <= last]
