"""The names of the probe protocols, apart from their code: the command line lists them without PyTorch."""

PROTOCOL_NAMES = (
    *("exact/v2", "ridge/v1", "knn/v1", "masarczyk2023/v1"),
    *("harun2024/v1", "harun2024-vit/v1", "harun2024-code/v1"),
)


def short_names() -> list[str]:
    """The names without versions; each means its newest one."""
    return list(dict.fromkeys(name.partition("/")[0] for name in PROTOCOL_NAMES))
