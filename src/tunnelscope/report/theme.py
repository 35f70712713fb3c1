"""Colours and type of the report, light and dark: one source for the page's CSS and the charts' config."""

from dataclasses import dataclass
from typing import Any, Literal

Scheme = Literal["light", "dark"]

FONT = '"Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif'

# The ID set is drawn in ink and as a disc; OOD sets take a colour and a shape of their own, so that neither
# print nor colour blindness merges them. Seven colours and six shapes repeat as a pair after 42 sets only.
SHAPES = ("square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")


@dataclass(frozen=True)
class Tokens:
    """The colours of one scheme; text on `paper` and `surface` has a contrast of 4.5 or more."""

    paper: str
    surface: str
    ink: str
    muted: str
    line: str
    accent: str
    tunnel: str
    tunnel_ink: str
    warn: str
    warn_ink: str
    sets: tuple[str, ...]
    heat: tuple[str, ...]

    def css(self) -> dict[str, str]:
        """The single colours as CSS custom properties."""
        return {
            f"--{name.replace('_', '-')}": value
            for name, value in vars(self).items()
            if isinstance(value, str)
        }


TOKENS: dict[Scheme, Tokens] = {
    "light": Tokens(
        paper="#ffffff",
        surface="#f7f6f3",
        ink="#191c20",
        muted="#5c636c",
        line="#e4e2dc",
        accent="#0a5d94",
        tunnel="#ead8ae",
        tunnel_ink="#7d6226",
        warn="#fdf3e1",
        warn_ink="#7a4a00",
        # After Okabe and Ito, the light ones darkened until a line of them stands on white (contrast ≥ 3).
        sets=("#0072b2", "#d55e00", "#00896a", "#b8568f", "#a87b00", "#3f8fc4", "#7a5195"),
        heat=("#f4f6f8", "#d3e0e8", "#9dbfd3", "#5f97b8", "#2f6e98", "#154a72", "#0a2a47"),
    ),
    "dark": Tokens(
        paper="#14171a",
        surface="#1c2024",
        ink="#eeece6",
        muted="#a3aab2",
        line="#30353b",
        accent="#79bdec",
        tunnel="#4a3f22",
        tunnel_ink="#cdb069",
        warn="#2e2415",
        warn_ink="#f0c47c",
        sets=("#4da9e8", "#ff8a47", "#2dc49b", "#e58fc2", "#e0b040", "#93cdf3", "#b794d6"),
        heat=("#1b2025", "#1d3547", "#22506e", "#2f6f97", "#5796bd", "#94bfda", "#d9ebf5"),
    ),
}


def set_colours(scheme: Scheme, count: int, has_id: bool) -> list[str]:
    """One colour per data set in the order of the legend; the ID set, if there is one, comes first in ink."""
    tokens = TOKENS[scheme]
    ood = [tokens.sets[place % len(tokens.sets)] for place in range(count - has_id)]
    return [tokens.ink] * has_id + ood


def set_shapes(count: int, has_id: bool) -> list[str]:
    """One point shape per data set in the order of the legend."""
    return ["circle"] * has_id + [SHAPES[place % len(SHAPES)] for place in range(count - has_id)]


def vega_config(scheme: Scheme, count: int, has_id: bool) -> dict[str, Any]:
    """Vega-Lite config that gives a colourless chart the look of one scheme.

    Args:
        scheme: light or dark.
        count: how many data sets the charts show.
        has_id: whether the first of them is an ID set.
    """
    tokens = TOKENS[scheme]
    return {
        "background": "transparent",
        "font": FONT,
        "padding": {"left": 2, "top": 4, "right": 10, "bottom": 2},
        "view": {"stroke": None},
        **_axes(tokens),
        "legend": _legend(tokens),
        "range": {
            "category": set_colours(scheme, count, has_id),
            "symbol": set_shapes(count, has_id),
            "heatmap": list(tokens.heat),
        },
        "style": _mark_styles(tokens),
    }


def _small_type(tokens: Tokens) -> dict[str, Any]:
    return {
        "labelFontSize": 11.5,
        "titleFontSize": 12,
        "labelColor": tokens.muted,
        "titleColor": tokens.ink,
        "titleFontWeight": 500,
    }


def _axes(tokens: Tokens) -> dict[str, Any]:
    return {
        "axis": {
            **_small_type(tokens),
            "domainColor": tokens.muted,
            "gridColor": tokens.line,
            "tickColor": tokens.muted,
            "tickSize": 4,
            "labelPadding": 5,
        },
        "axisX": {"grid": False, "titlePadding": 10},
        # The title of a vertical axis lies above it, to be read without turning the head.
        "axisY": {
            "domain": False,
            "ticks": False,
            "titleAngle": 0,
            "titleAlign": "left",
            "titleAnchor": "end",
            "titleBaseline": "bottom",
            "titleX": 0,
            "titleY": -27,
        },
    }


def _legend(tokens: Tokens) -> dict[str, Any]:
    return {
        **_small_type(tokens),
        "labelFontSize": 12.5,
        "labelColor": tokens.ink,
        "symbolStrokeWidth": 2,
        "symbolSize": 70,
        "unselectedOpacity": 0.25,
        "rowPadding": 5,
        "columnPadding": 18,
        "gradientLength": 200,
        "gradientThickness": 8,
        "layout": {"top": {"direction": "vertical", "anchor": "start"}},  # two legends stand below each other
    }


def _mark_styles(tokens: Tokens) -> dict[str, Any]:
    """Styles that marks are given by name: the tunnel, the network's own accuracy, halos behind points."""
    return {
        "tunnel": {"color": tokens.tunnel, "opacity": 0.5},
        "tunnel-edge": {"color": tokens.tunnel_ink, "strokeWidth": 1},
        "tunnel-interval": {"color": tokens.tunnel_ink, "strokeWidth": 3, "strokeCap": "round"},
        "tunnel-label": {"color": tokens.tunnel_ink, "fontSize": 11.5, "fontWeight": 500},
        "network": {"color": tokens.muted, "strokeWidth": 1.25, "strokeDash": [2, 3]},
        "network-label": {"color": tokens.muted, "fontSize": 11.5},
        "halo": {"color": tokens.paper, "stroke": tokens.paper, "strokeWidth": 4, "strokeJoin": "round"},
    }
