"""Tiny random models of transformers in folders, as save_pretrained writes them."""

import json
from pathlib import Path

import torch

WORDS = ("what", "is", "the", "capital", "of", "france", "who", "wrote", "hamlet", "how", "many", "?")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TEXT_KINDS = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32},
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "albert": {
        "embedding_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
    "deberta": {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32},
    "deberta-v2": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
    },
}
IMAGE_KINDS = {
    "vit": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 16,
        "patch_size": 4,
    },
    "dinov2": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    },
    "dinov2_with_registers": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    },
    "convnext": {"hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 2, 1], "image_size": 32},
    "resnet": {
        "embedding_size": 4,
        "hidden_sizes": [4, 8, 8, 8],
        "depths": [1, 1, 2, 1],
        "layer_type": "basic",
    },
    "swin": {
        "embed_dim": 4,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "image_size": 16,
        "patch_size": 2,
        "window_size": 4,
    },
}


def save_model(folder: Path, kind: str, auto: str = "AutoModel", **values) -> Path:
    """Write a random model: config.json and model.safetensors."""
    import transformers

    from tunnelscope.models.vision import declare_missing_operators

    declare_missing_operators()
    sizes = TEXT_KINDS.get(kind) or IMAGE_KINDS[kind]
    vocabulary = {"vocab_size": len(SPECIAL) + len(WORDS)} if kind in TEXT_KINDS else {}
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **vocabulary, **values})
    torch.manual_seed(0)
    getattr(transformers, auto).from_config(config).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> Path:
    """Write a tokenizer of the words above, one token a word."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *WORDS)) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 12})
    )
    return folder


def save_text_encoder(folder: Path, kind: str = "bert", **values) -> Path:
    """Write a random text encoder and its tokenizer, which takes at most 12 tokens."""
    return save_tokenizer(save_model(folder, kind, **values))
