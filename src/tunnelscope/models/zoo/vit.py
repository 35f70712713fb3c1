"""ViT-T and ViT-T+, the vision transformers of Harun et al. 2024 (arXiv:2405.15018).

Plain ViTs (Dosovitskiy et al. 2021, arXiv:2010.11929) without a class token: fixed sin-cos positions and the
mean of the tokens, as Beyer et al. 2022 (arXiv:2205.01580) have them. Names are timm's. The sides of images
must be multiples of the patch's 8 pixels. ViT-T on 32×32 images:

    images                                        (3, 32, 32)
    patch_embed: 8×8 stride 8, as tokens          (16, 192)     64, 256, 784 tokens at 64, 128, 224 pixels
    + positions                                   (16, 192)     no parameters
    blocks.0 … blocks.11, ViT-T+ … blocks.17      (16, 192)
        + norm1, attn (3 heads of 64)
        + norm2, mlp (192, 768, GELU, 192)
    norm, mean of the tokens                      (192,)
    head                                          (classes,)

At 100 classes these are 5,395,108 and 8,064,292 parameters. The paper prints 5.61 M and 8.39 M: its released
model holds in every block a halting MLP (192 → 96 → 1, 18,625 parameters) that no forward pass calls; with
these the counts are 5,618,608 and 8,399,542. They are left out here, so γ (parameters a training image) on
ImageNet-100 is 42.6 and 63.7, where the paper has 44.28 and 66.23.

The paper probes the blocks, 12 and 18 layers: `--layers 'blocks\\.\\d+$'`; `--layers blocks` has the patch
embedding before them.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunnelscope.errors import RequestError

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, which the paper takes for CIFAR too
STD = (0.229, 0.224, 0.225)

PATCH = 8
WIDTH = 192
HEADS = 3
STEP = 4 * HEADS  # a width is shared out to the heads, and to the sines and cosines of two positions


class PatchEmbedding(nn.Module):
    """Patches of 8×8 pixels through one linear map, read row by row."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, tokens, width)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (batch, tokens, width)."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (batch, heads, tokens, width of a head)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class FeedForward(nn.Module):
    """Each token through a hidden layer of four times its width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (batch, tokens, width)."""
        return self.fc2(self.act(self.fc1(tokens)))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): training leaves some branches out, by image."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return a tensor like `branch`, (batch, tokens, width), zero for the images left out."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * kept / (1 - self.rate)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each normed before and added to what went in."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = FeedForward(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (batch, tokens, width)."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class VisionTransformer(nn.Module):
    """Patches and their positions, blocks, the mean of the normed tokens, a linear classifier."""

    positions: Tensor

    def __init__(
        self, image_shape: tuple[int, int, int], depth: int, width: int, classes: int, drop_path: float
    ) -> None:
        super().__init__()
        channels, rows, columns = image_shape[0], image_shape[1] // PATCH, image_shape[2] // PATCH
        rates = [drop_path * block / max(depth - 1, 1) for block in range(depth)]
        self.patch_embed = PatchEmbedding(channels, width)
        # Not among the weights: those trained at one image size load at another.
        self.register_buffer("positions", sincos_positions(rows, columns, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, rate) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes), of images (batch, channels, height, width)."""
        tokens = self.patch_embed(images) + self.positions
        tokens = self.norm(self.blocks(tokens))  # (batch, tokens, width)
        return self.head(tokens.mean(dim=1))


def sincos_positions(rows: int, columns: int, width: int = WIDTH) -> Tensor:
    """Return the position of each patch, (rows · columns, width): sine and cosine of column, then of row.

    Each with width / 4 frequencies (of ViT-T 48) in equal ratios from 1 to 1/10000.
    """
    with torch.device("cpu"):  # whatever device the weights are made on
        frequencies = 10000.0 ** -torch.linspace(0, 1, width // 4, dtype=torch.float64)
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        across = column.reshape(-1, 1) * frequencies  # (tokens, width / 4)
        down = row.reshape(-1, 1) * frequencies
        return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1).float()


def initialise(module: nn.Module) -> None:
    """Draw linear weights from a truncated N(0, 0.02²), biases 0, as DeiT and the paper's code do.

    The patch embedding is drawn as PyTorch does.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def vit(
    depth: int,
    *,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: float = 1.0,
    drop_path: float = 0.0,
) -> VisionTransformer:
    """Build a ViT of `depth` blocks.

    Args:
        width: times the 192 features of the paper's, to the nearest multiple of 12 (three heads).
        drop_path: how often training leaves a branch of the last block out; less in the blocks before, in
            equal steps from 0 in the first. The paper's text has none, its code 0.1.

    Raises:
        RequestError: a side of the image is no multiple of 8, width leaves nothing, or drop_path is no share
            below 1.
    """
    _, high, wide = image_shape
    if high % PATCH or wide % PATCH or not high or not wide:
        raise RequestError(f"zoo:vit needs images whose sides are multiples of {PATCH}, got {high}x{wide}")
    features = STEP * round(width * WIDTH / STEP)
    if features < STEP:
        raise RequestError(f"zoo:vit needs a width of at least {STEP / WIDTH:g}, got width={width:g}")
    if not 0 <= drop_path < 1:
        raise RequestError(f"zoo:vit needs drop_path of 0 or more and below 1, got drop_path={drop_path}")
    return VisionTransformer(image_shape, depth, features, classes, drop_path)


vit_t = partial(vit, 12)
vit_t_plus = partial(vit, 18)
