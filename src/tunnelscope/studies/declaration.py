"""A study's file: networks × data × probes in TOML, checked, with typos answered by the nearest right key."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.protocol_names import short_names
from tunnelscope.training.recipe import Recipe

Scalar = bool | int | float | str
# Settings of `ts.train` that a study's file may have beside those of a recipe.
OF_TRAINING = ("recipe", "weights", "precision", "max_samples", "device", "state_every", "workers")
SHIPPED = Path(__file__).parent / "shipped"
Levels = Scalar | Annotated[list[Scalar], Field(min_length=1)]  # one level of a factor, or several
Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Counts = Count | Annotated[list[Count], Field(min_length=1)]
Seeds = Seed | Annotated[list[Seed], Field(min_length=1)]
Names = str | Annotated[list[str], Field(min_length=1)]


def _known(probes: list[str]) -> list[str]:
    for probe in probes:
        if probe not in short_names():
            raise unknown_name("probe", probe, short_names())
    return probes


Probes = Annotated[list[str], Field(min_length=1), AfterValidator(_known)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Strict):
    """A data set under a short name.

    Attributes:
        source: as `tunnelscope scan --id` takes it.
        origin: where it is to be had, in words.
        classes, train, test: its sizes, so that a plan needs no data; `tunnelscope data check` compares them.
        variables: told of networks that are trained on it.
    """

    source: str
    origin: str | None = None
    classes: int | None = Field(None, ge=2)
    train: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)
    variables: dict[str, Scalar] = {}


class Scanning(_Strict):
    """How every network is scanned: options of `tunnelscope scan`.

    Attributes:
        ood: names of data sets; each network is also read on its own.
        probes: protocols, each a scan of its own on features that are recorded once.
    """

    ood: list[str] = []
    probes: Probes = ["exact"]
    layers: str = "blocks"
    pool: str = "auto"
    max_samples: int | None = Field(None, ge=1)
    control: bool = False
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "f32", "bf16"] = "f32"


class Networks(_Strict):
    """A grid of networks: every combination of the levels given; a table without lists is one network.

    Attributes:
        model: as `tunnelscope scan MODEL`.
        arguments: of the model, such as `depth`.
        id: the data set that it is trained on, by its short name.
        weights: of networks that exist already: `pretrained`, `random` or files; they are not trained.
        classes: the first so many of the data set's.
        per_class: images of each to train on.
        resolution: side of the images that the network takes.
        seed: of the training.
        training: settings of `tunnelscope train`, over those of the study.
        variables: told of these networks, such as φ; they decide nothing.
        ood, layers, pool, probes: instead of the study's.
    """

    model: Names
    id: Names
    arguments: dict[str, Levels] = {}
    weights: Names | None = None
    classes: Counts | None = None
    per_class: Counts | None = None
    resolution: Counts | None = None
    seed: Seeds = 0
    training: dict[str, Levels] = {}
    variables: dict[str, Scalar] = {}
    ood: list[str] | None = None
    layers: str | None = None
    pool: str | None = None
    probes: Probes | None = None


class Exclusion(_Strict):
    """Networks to leave out: those that have all of these levels (one of them, where a list is given)."""

    model: Names | None = None
    id: Names | None = None
    arguments: dict[str, Levels] = {}
    weights: Names | None = None
    classes: Counts | None = None
    per_class: Counts | None = None
    resolution: Counts | None = None
    seed: Seeds | None = None
    training: dict[str, Levels] = {}


class Slurm(_Strict):
    """What a job of the array asks Slurm for; units are in the names.

    Attributes:
        cluster: of submitit: "slurm", or "local" for processes on this machine.
        parameters: handed to `sbatch` as they are, such as `account`.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    partition: str | None = None
    timeout_minutes: int = Field(240, ge=1)
    memory_gb: float = Field(8, gt=0)
    cpus: int = Field(2, ge=1)
    gpus: int = Field(0, ge=0)
    parameters: dict[str, Scalar] = {}


class Declaration(_Strict):
    """A study's file."""

    name: str = Field(pattern=r"^[\w.-]+$")
    data: dict[str, Data] = Field(min_length=1)
    networks: list[Networks] = Field(min_length=1)
    training: dict[str, Scalar] = {}
    scan: Scanning = Scanning()  # pyright: ignore[reportCallIssue]
    exclude: list[Exclusion] = []
    slurm: Slurm = Slurm()  # pyright: ignore[reportCallIssue]


def read_declaration(path: str | Path) -> Declaration:
    """Read a study's file, or one that is shipped: `studies/harun2024.toml`.

    Raises:
        RequestError: it is not there, is no TOML, or has a wrong key or value: where, and the nearest one.
    """
    told = _tables(Path(path), ())
    try:
        declared = Declaration.model_validate(told)
    except ValidationError as error:
        raise RequestError(f"{path}: {_first(error)}") from error
    _check_names(declared, str(path))
    _check_training(declared, str(path))
    return declared


def _tables(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """What a file says, over what it extends: tables are merged, lists follow each other."""
    path = _found(path)
    if path in above:
        raise RequestError(f"{path} extends itself")
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path} is no TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read as a study file ({error})") from error
    base = told.pop("extends", None)
    if base is None:
        return told
    if not isinstance(base, str):
        raise RequestError(f"{path}: extends takes the name of a file, got {base!r}")
    beside = path.parent / base
    return _merged(_tables(beside if beside.exists() else Path(base), (*above, path)), told)


def _merged(base: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in told.items():
        before = result.get(key)
        if key in ("networks", "exclude") and isinstance(before, list) and isinstance(value, list):
            result[key] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            result[key] = before | value
        else:
            result[key] = value
    return result


def _found(path: Path) -> Path:
    """The file, or the shipped one of this name where there is no such file."""
    if path.exists():
        return path
    if path.name in shipped() and path.parent.name in ("studies", "shipped", ""):
        return SHIPPED / path.name
    raise RequestError(
        f"there is no study file {path}; `tunnelscope study init {path}` writes one, and shipped are "
        f"{', '.join(f'studies/{name}' for name in shipped())}"
    )


def shipped() -> list[str]:
    """Names of the files that come with the package, the example left out."""
    return sorted(path.name for path in SHIPPED.glob("*.toml") if path.name != "example.toml")


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, with its place in the file and the nearest right key."""
    worst = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
    place = _place(worst["loc"])
    if worst["type"] == "extra_forbidden":
        *parents, key = worst["loc"]
        known = _keys_at(parents)
        table = _place(parents) or "a study"
        return str(unknown_name(f"key of {table}", str(key), known))
    if worst["type"] == "missing":
        return f"{place} is missing"
    more = f" ({len(error.errors())} faults)" if len(error.errors()) > 1 else ""
    return f"{place}: {worst['msg'].removeprefix('Value error, ')}, got {worst['input']!r:.80}{more}"


def _place(location: Any) -> str:
    """A place in the file as TOML writes it: networks[0].arguments.depth."""
    told = ""
    for part in location:
        if isinstance(part, int):
            told += f"[{part}]"
        elif part.isidentifier() and part not in ("bool", "int", "float", "str"):
            told += f".{part}" if told else part
    return told


def _keys_at(parents: list[Any]) -> list[str]:
    """The keys that a table of the file may have."""
    model: Any = Declaration
    tables = {"data": Data, "networks": Networks, "scan": Scanning, "exclude": Exclusion, "slurm": Slurm}
    if parents:
        model = tables.get(str(parents[0]), Declaration)
    return list(model.model_fields)


def _check_names(declared: Declaration, source: str) -> None:
    """Refuse names of data sets that are not declared."""
    asked = {f"networks[{place}].id": as_list(grid.id) for place, grid in enumerate(declared.networks)}
    asked |= {f"networks[{place}].ood": grid.ood or [] for place, grid in enumerate(declared.networks)}
    for where, names in (asked | {"scan.ood": declared.scan.ood}).items():
        for name in names:
            if name not in declared.data:
                hint = "Data sets are declared as [data.NAME]."
                raise RequestError(
                    f"{source}: {where}: {unknown_name('data set', name, declared.data, hint)}"
                )


def _check_training(declared: Declaration, source: str) -> None:
    """Refuse settings that no training has."""
    known = [*OF_TRAINING, *(field.name for field in fields(Recipe) if field.name != "source")]
    tables = {"training": declared.training}
    tables |= {f"networks[{place}].training": grid.training for place, grid in enumerate(declared.networks)}
    for where, settings in tables.items():
        for setting in settings:
            if setting not in known:
                raise RequestError(f"{source}: {unknown_name(f'key of {where}', setting, known)}")


def as_list(levels: Any) -> list[Any]:
    """The levels of a factor, given as a list or as one value."""
    return list(levels) if isinstance(levels, list) else [levels]
