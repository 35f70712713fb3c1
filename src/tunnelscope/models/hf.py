"""Networks of transformers (extra `hf`): vision models and text encoders, from a folder or the hub.

Weights come from safetensors through this package's own reader; no pickle is opened, and no code that a model
brings along is run.
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tunnelscope.data.text import Tokenisation
from tunnelscope.errors import RequestError, unknown_name
from tunnelscope.models.fit import misfit
from tunnelscope.models.hf_files import TOKENIZERS, has_tokenizer, model_folder, read_weights
from tunnelscope.models.hf_images import count_prefix_tokens, image_preprocessing
from tunnelscope.models.network import Network, seeded
from tunnelscope.models.spec import ModelSpec
from tunnelscope.models.vision import declare_missing_operators
from tunnelscope.models.weights import first_few, load_weights, one_line

# Checkpoints of these kinds carry a classifier; of any other kind only the base is read.
CLASSIFIERS = ("ForImageClassification", "ForSequenceClassification")
LIMITS = (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length"))
NO_LIMIT = 10**9  # tokenizers that know none give a number beyond this
UNLIMITED = 4096  # where a model says nothing


def build_hf(
    spec: ModelSpec, choice: str | Path, image_shape: tuple[int, int, int] | None, seed: int
) -> Network:
    """Build a vision model or a text encoder of transformers.

    Args:
        spec: name: a folder with config.json, or an id on the hub; arguments: values of the configuration.
        choice: "pretrained", "random" or the path of a file.
        image_shape: of the data, for a model that says no image size.

    Raises:
        RequestError: the extra is missing, there is no such model, or its files do not fit together.
        MachineError: the hub's files cannot be had.
    """
    transformers = import_transformers(spec.source)
    folder = model_folder(spec.name, choice == "pretrained")
    with quiet(transformers), seeded(seed):
        config = read_config(transformers, folder, spec)
        cls = model_class(transformers, config, spec)
        module, left_out = build_module(cls, config, folder, choice, spec)
    setattr(module, "num_prefix_tokens", count_prefix_tokens(module))  # noqa: B010  # where layers.py looks for it
    if cls.main_input_name == "input_ids":
        preprocessing, warnings = tokenisation(folder, module, spec), ()
    else:
        preprocessing, warnings = image_preprocessing(folder, module, spec, image_shape)
        size = spec.arguments.get("image_size")
        if preprocessing is not None and isinstance(size, int):
            preprocessing = replace(preprocessing, size=(size, size))
    network = Network(
        name=folder.name if Path(spec.name).expanduser().is_dir() else spec.name,
        source=spec.source,
        module=module,
        preprocessing=preprocessing,
        weights="pretrained" if choice == "pretrained" else Path(choice).name,
        warnings=(*left_out, *warnings),
    )
    is_file = choice not in ("pretrained", "random")
    return replace(network, weights_file=str(choice)) if is_file else network


def import_transformers(source: str) -> ModuleType:
    """Return transformers, imported beside a torchvision whose operators may not load.

    Raises:
        RequestError: it is not installed.
    """
    declare_missing_operators()
    try:
        import transformers
    except ImportError as error:
        raise RequestError(f"{source} needs the transformers library: pip install tunnelscope[hf]") from error
    return transformers


@contextmanager
def quiet(transformers: ModuleType) -> Iterator[None]:
    """Keep the library's progress bars and reports off the terminal inside the block."""
    logging = transformers.utils.logging
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def read_config(transformers: ModuleType, folder: Path, spec: ModelSpec) -> Any:
    """Read a model's configuration, with the query's arguments in place of its own values."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        known = {*config.to_dict(), "num_labels"}
        for argument in spec.arguments:
            if argument not in known:
                raise unknown_name(f"value of {folder / 'config.json'}", argument, known)
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **spec.arguments)
    except RequestError:
        raise
    except Exception as error:  # a broken or foreign configuration ends in whatever the library runs into
        raise RequestError(
            f"{folder / 'config.json'} is no configuration that transformers knows: {one_line(error)[:200]}"
        ) from error


def model_class(transformers: ModuleType, config: Any, spec: ModelSpec) -> Any:
    """Return the class to build: with the classifier where the checkpoint has one, else the base."""
    architecture = (getattr(config, "architectures", None) or [""])[0]
    if architecture.endswith(CLASSIFIERS) and hasattr(transformers, architecture):
        return getattr(transformers, architecture)
    mapping = transformers.AutoModel._model_mapping
    cls = mapping.get(type(config), None)
    cls = cls[0] if isinstance(cls, list | tuple) else cls
    if cls is None or cls.main_input_name not in ("input_ids", "pixel_values"):
        raise RequestError(
            f"{spec.source} is a {config.model_type}, which reads neither images nor texts alone;"
            " give a vision model or a text encoder"
        )
    return cls


def build_module(
    cls: Any, config: Any, folder: Path, choice: str | Path, spec: ModelSpec
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a model with the chosen weights; say which of their tensors it has no place for."""
    takes_pooler = "add_pooling_layer" in inspect.signature(cls.__init__).parameters
    options = {"add_pooling_layer": False} if takes_pooler else {}  # it comes after the last layer
    state = None
    if choice != "random":
        state = read_weights(folder) if choice == "pretrained" else load_weights(choice)
    try:
        if state is None:
            return cls(config, **options), ()
        # the library knows how the names in old checkpoints became those of today's modules
        module, report = cls.from_pretrained(
            None,
            config=config,
            state_dict=state,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except Exception as error:  # a library refuses arguments with whatever they run into
        raise RequestError(f"transformers cannot build {spec.source!r}: {one_line(error)[:300]}") from error
    source = folder if choice == "pretrained" else choice
    if takes_pooler:
        report["unexpected_keys"] = [key for key in report["unexpected_keys"] if "pooler." not in key]
    return module, checked(report, f"{source} does not fit {cls.__name__}", spec)


def checked(report: dict[str, Any], refusal: str, spec: ModelSpec) -> tuple[str, ...]:
    """Refuse weights that leave tensors of a model untouched; name those it has no place for in a warning."""
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing:
        raise RequestError(f"{refusal}: {misfit(missing, unexpected)}")
    misshaped = sorted(str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"])
    if misshaped:
        raise RequestError(
            f"{refusal}: {len(misshaped)} of another shape: {first_few(misshaped)};"
            " give the configuration's values from training, such as ?num_labels=N"
        )
    if not unexpected:
        return ()
    return (f"{spec.source}: {len(unexpected)} tensors of the weights are not used: {first_few(unexpected)}",)


def tokenisation(folder: Path, module: nn.Module, spec: ModelSpec) -> Tokenisation:
    """Return what is done to a text: the model's own tokenizer and its most tokens."""
    said = [name for name, value in vars(spec.overrides).items() if value is not None]
    if said:
        raise RequestError(f"{spec.source} reads text; {said[0]}= is for images, leave it out")
    config: Any = module.config
    limits = [config_value(folder / file, key) for file, key in LIMITS]
    positions = [
        child.num_embeddings
        - (0 if child.padding_idx is None else child.padding_idx + 1)  # RoBERTa's start there
        for name, child in module.named_modules()
        if name.endswith("position_embeddings") and isinstance(child, nn.Embedding)
    ]
    known = [limit for limit in (*positions, *limits, config.to_dict().get("n_positions")) if limit]
    return Tokenisation(
        max_length=min(known, default=UNLIMITED),
        vocabulary=config.vocab_size,
        load=partial(load_tokenizer, folder, spec.source),
    )


def config_value(file: Path, key: str) -> int | None:
    """Return a whole number from a JSON file, None where it is not there."""
    try:
        value = json.loads(file.read_text())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) and 0 < value < NO_LIMIT else None


def load_tokenizer(folder: Path, source: str) -> Any:
    """Load a folder's tokenizer.

    Raises:
        RequestError: there is none, or its files are damaged.
    """
    if not has_tokenizer(folder):
        raise RequestError(
            f"{folder} holds no tokenizer ({', '.join(TOKENIZERS)}), which {source} needs for texts"
        )
    transformers = import_transformers(source)
    try:
        with quiet(transformers):
            return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a broken file ends in whatever the library runs into
        raise RequestError(f"the tokenizer in {folder} cannot be read: {one_line(error)[:200]}") from error
