"""All figures and tables of both papers, by name: what each shows, and which function redoes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunnelscope.errors import unknown_name

SCALES = ("smoke", "small", "paper")


@dataclass(frozen=True)
class Item:
    """A figure or table.

    Attributes:
        name: "PAPER/ITEM".
        title: what it shows.
        alias: a speaking name, where the paper's number is not known to us.
        function: "MODULE:FUNCTION" below the paper's folder.
        claim: in words, told while nothing of the item was run.
        is_released: the paper's released table carries it, nothing is trained.
    """

    name: str
    title: str
    function: str
    alias: str | None = None
    claim: str = ""
    is_released: bool = False

    @property
    def paper(self) -> str:
        """The paper's name."""
        return self.name.partition("/")[0]

    @property
    def short(self) -> str:
        """The name without the paper."""
        return self.name.partition("/")[2]

    @property
    def is_of_study(self) -> bool:
        """Whether it reads the networks of the 2024 paper's study and nothing else."""
        return self.function.partition(":")[0] in ("questions", "protocol")


def _masarczyk(short: str, title: str, function: str, alias: str | None = None) -> Item:
    return Item(f"masarczyk2023/{short}", title, function, alias)


MASARCZYK = (
    _masarczyk("fig1", "VGG-19 on CIFAR-10: accuracy saturates where the rank falls", "figures:fig1"),
    _masarczyk("fig2", "The same of an MLP, VGG-19 and ResNet-34", "figures:fig2"),
    _masarczyk("fig3", "VGG-19: variance within and between classes", "figures:fig3"),
    _masarczyk("fig4", "MLP: similarity of layers (CKA, L1 differences)", "figures:fig4"),
    _masarczyk("fig5", "VGG-19: change of weights over training, and the tunnel's reset", "figures:fig5"),
    _masarczyk("fig6", "VGG-19: numerical rank over training", "figures:fig6"),
    _masarczyk("fig7", "OOD accuracy and rank of an MLP, VGG-19 and ResNet-34", "figures:fig7"),
    _masarczyk("fig8", "VGG-19 on classes of CIFAR-100, seen on CIFAR-10", "figures:fig8"),
    _masarczyk("fig9", "MLPs of several depths", "figures:fig9"),
    _masarczyk("fig10", "Forgetting by depth", "continual:fig10", "cl_depth"),
    _masarczyk("table1", "Where the tunnel starts, by network and data", "tables:table1"),
    _masarczyk("table2", "Where the tunnel starts, by width", "tables:table2"),
    _masarczyk("table3", "Where the tunnel starts, by classes and images", "tables:table3"),
    _masarczyk("table4", "Extractors and tunnels of two tasks swapped", "continual:table4", "cl_swaps"),
    _masarczyk("appendix-cka", "CKA between layers of VGG-19 and ResNet-34", "appendix:cka", "cka"),
    _masarczyk("appendix-variances", "Variances of all three networks", "appendix:variances", "variances"),
    _masarczyk("appendix-no-skip", "ResNet-34 without skip connections", "appendix:no_skip", "no_skip"),
)

RELEASED = (
    *("fig2", "fig7", "fig8", "fig9", "fig10", "fig11", "fig12", "fig13", "fig19", "fig20"),
    *("table1", "table5", "table6", "table7", "table12", "table13"),
)
TYPESET = ("table4", "table8", "table9")  # held to what is printed
QUESTIONS = (
    *("fig1", "fig3", "fig4", "fig5", "fig6", "fig14", "fig15", "fig16"),
    *("fig21", "fig22", "fig23", "fig24", "fig25", "table11"),
)
BACKBONES = ("fig17", "fig18", "table3", "table10")
HARUN_FUNCTIONS = {
    **{short: f"released:{short}" for short in RELEASED},
    **{short: f"typeset:{short}" for short in TYPESET},
    **{short: f"questions:{short}" for short in QUESTIONS},
    **{short: f"backbones:{short}" for short in BACKBONES},
    "table2": "continual:table2",
    "protocol": "protocol:protocol",
    "own-effects": "protocol:own_effects",
}
HARUN_WORDS = (
    ("fig1", "VGGm-17 at 32² and 224²: ID and OOD curves", "higher resolution shortens the tunnel"),
    ("fig2", "SHAP slopes for r and A", "class count moves r most, resolution moves A most"),
    ("fig3", "ResNet-34 and ViT-T+ with and without augmentation", "augmentation moves the tunnel back"),
    ("fig4", "t-SNE of VGGm-11 at 32² and 224²", "layers 8 to 10 compress at 32² only"),
    ("fig5", "VGGm-11 against VGGm†-11", "without its first pools the network has no tunnel"),
    ("fig6", "VGGm-11 by classes and samples", "classes matter more than samples"),
    ("fig7", "SHAP of depth: bars, beeswarm, line", "deeper networks retain less"),
    ("fig8", "SHAP slopes for ρ", "class count moves ρ most"),
    ("fig9", "r by network", "VGGm-11 is the best CNN, ViTs with augmentation the best"),
    ("fig10", "r against depth within families", "deeper is worse in each family"),
    ("fig11", "r against γ", "r falls with over-parameterisation"),
    ("fig12", "r and A against the stem", "r is least with a 7×7 stem"),
    ("fig13", "r with and without augmentation", "augmentation raises r"),
    ("fig14", "VGGm-11 curves by ID set", "tunnels are weaker with 100 classes"),
    ("fig15", "OOD accuracy by classes and samples", "more of both is better"),
    ("fig16", "VGGm-11 and -17 by ID set, without augmentation", "all show tunnels"),
    ("fig17", "Curves of public backbones", "pretrained networks hardly have tunnels"),
    ("fig18", "Curves of public ConvNeXts", "pretrained networks hardly have tunnels"),
    ("fig19", "ID and OOD accuracy and A by resolution, augmentation, classes", "all rise with each"),
    ("fig20", "ID and OOD accuracy and A by depth, φ, stem", "they fall with depth"),
    ("fig21", "VGGm-17 at four resolutions, without augmentation", "degradation falls with resolution"),
    ("fig22", "VGGm-17 at four resolutions, with augmentation", "degradation falls with resolution"),
    ("fig23", "ViT-T+ at four resolutions, without augmentation", "degradation falls with resolution"),
    ("fig24", "ViT-T+ at four resolutions, with augmentation", "degradation falls with resolution"),
    (
        "fig25",
        "Accuracy and rank of VGGm-17 at 32² and 224²",
        "the rank falls after the extractor at 32² only",
    ),
    ("table1", "Resolution in pairs", "r rises with resolution"),
    ("table2", "Continual learning", "the tunnel holds task knowledge"),
    ("table3", "Augmentations of public backbones", "what each was trained with"),
    ("table4", "OOD accuracy of the ImageNet-100 networks", "accuracy by network and OOD set"),
    ("table5", "r of the ImageNet-100 networks", "r by network and OOD set"),
    ("table6", "ρ of the ImageNet-100 networks", "ρ by network and OOD set"),
    ("table7", "A of the ImageNet-100 networks", "A by network and OOD set"),
    ("table8", "OOD accuracy of public backbones", "accuracy by backbone and OOD set"),
    ("table9", "r of public backbones", "all but ResNet-50 retain 95 % or more"),
    ("table10", "ID accuracy of public backbones", "accuracy by backbone"),
    ("table11", "ID accuracy and parameters of the 64 networks", "accuracy by network"),
    ("table12", "Means of r, ρ and A by variable", "means by level of each variable"),
    ("table13", "All pairs of levels", "Cliff's δ and p of 45 pairs"),
    ("protocol", "How much of r is the protocol", "probes and the choice of the best layer move r"),
    ("own-effects", "SHAP slopes over our own networks", "what moves r in the released table moves it here"),
)
HARUN = tuple(
    Item(
        f"harun2024/{short}",
        title,
        HARUN_FUNCTIONS[short],
        claim=claim,
        is_released=short in (*RELEASED, *TYPESET),
    )
    for short, title, claim in HARUN_WORDS
)
ITEMS = {item.name: item for item in (*MASARCZYK, *HARUN)}
PAPERS = ("masarczyk2023", "harun2024")


def chosen_items(names: Sequence[str]) -> list[Item]:
    """Return the items that names mean: an item, its speaking name, or a paper for all of its items.

    Raises:
        RequestError: no such item; the nearest is named.
    """
    found: dict[str, Item] = {}
    by_alias = {f"{item.paper}/{item.alias}": item for item in ITEMS.values() if item.alias}
    for name in names:
        if name in PAPERS:
            found |= {item.name: item for item in ITEMS.values() if item.paper == name}
        elif name in ITEMS or name in by_alias:
            item = ITEMS.get(name) or by_alias[name]
            found[item.name] = item
        else:
            raise unknown_name(
                "item", name, [*ITEMS, *by_alias, *PAPERS], "`tunnelscope reproduce` lists all."
            )
    return list(found.values())
