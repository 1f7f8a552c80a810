"""Planned layers -> a graph of a network's convolutions and shortcuts, drawn one stage a row."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path as Outline

from bnas.cost.plan import PlannedLayer
from bnas.report.figures import part_of
from bnas.report.ink import PRECISION_FILL, PRECISION_SAID, PRECISION_TEXT, SMALL, Ink
from bnas.report.tables import by
from bnas.space.values import PRECISIONS

Positions = dict[str, tuple[float, float]]

_IN_A_ROW = 5  # convolutions; a longer stage goes on in the next row
_POINTS = 72  # in an inch
# Inches.
_LEFT, _STEP, _ROW, _HEAD, _FOOT = 1.45, 1.8, 1.28, 0.5, 1.25
_DIAMETER = {"box": 1.24, "sum": 0.19, "start": 0.09}
_BOX_HEIGHT = 0.56
_LETTERS = 7.8  # points

_SHORTCUTS: dict[str, tuple[str, Any]] = {  # kind: what it is, dashes
    "as it is": ("shortcut as it is", "-"),
    "fitted": ("shortcut pooled, channels repeated", (0, (2, 1.5))),
    "convolved": ("shortcut with a real convolution", "-"),
}


def topology_graph(layers: Iterable[PlannedLayer]) -> nx.DiGraph:
    """Return the graph of a network: boxes for convolutions, sums where shortcuts end, a start for each row.

    Nodes have `row`, `column` (in steps of one convolution) and `shape` (box, sum or start), all but sums `text`, and
    boxes `precision`; edges have `kind`: flow, next row, or a shortcut's (as it is, fitted, convolved).
    """
    parts: dict[str, list[PlannedLayer]] = defaultdict(list)
    for layer in _with_poolings(layers):
        parts[part_of(layer)].append(layer)
    graph, row, last = nx.DiGraph(), 0, ""
    for part, inside in parts.items():
        boxes = [layer for layer in inside if layer.role in ("main", "mix")]
        chunks = [boxes[first : first + _IN_A_ROW] for first in range(0, len(boxes), _IN_A_ROW)] or [[]]
        for index, chunk in enumerate(chunks):
            start = f"{part}, row {index + 1}"
            said = _part_text(part, inside) if index == 0 else ""
            graph.add_node(start, row=row, column=0.0, shape="start", text=said)
            if last:
                graph.add_edge(last, start, kind="next row")
            last = _add_units(graph, start, chunk, inside) if boxes else _add_end(graph, start, inside)
            row += 1
    return graph


def _with_poolings(layers: Iterable[PlannedLayer]) -> list[PlannedLayer]:
    """Return the layers, each convolution with the size after the pooling behind it, which is no layer of its own."""
    found, size = list[PlannedLayer](), None
    for layer in reversed(list(layers)):
        found.append(replace(layer, out_size=size) if layer.kind == "conv" and size else layer)
        size = layer.in_size if layer.kind in ("norm", "activation") else size
    return found[::-1]


def draw_topology(layers: Iterable[PlannedLayer], ink: Ink) -> Figure:
    """Return a network's topology: precision by colour, shortcuts as arcs."""
    graph = topology_graph(layers)
    rows = 1 + max(row for _, row in graph.nodes(data="row"))
    steps = max(column for _, column in graph.nodes(data="column"))
    width, height = max(_LEFT + _STEP * steps + 0.6, 6.4), _HEAD + _ROW * (rows - 1) + _FOOT
    figure = Figure(figsize=(width, height), facecolor=ink.paper)
    axes = figure.add_axes((0, 0, 1, 1))
    places = {
        name: (_LEFT + _STEP * data["column"], height - _HEAD - _ROW * data["row"])
        for name, data in graph.nodes.items()
    }
    _draw_nodes(axes, graph, places, ink)
    _draw_edges(axes, graph, places, ink)
    _draw_legend(axes, graph, ink)
    # Data units are inches; last, for networkx moves the limits and switches the axes on.
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure


def _add_units(graph: nx.DiGraph, start: str, chunk: Sequence[PlannedLayer], inside: Sequence[PlannedLayer]) -> str:
    """Add convolutions, each with the sum that its shortcut ends in; return the last sum."""
    row, before = graph.nodes[start]["row"], start
    for index, layer in enumerate(chunk):
        unit = layer.name.removesuffix(".conv")
        box, end = layer.name, f"{unit}.sum"
        graph.add_node(box, row=row, column=index + 0.5, shape="box", text=_box_text(layer, inside),
                       precision=layer.precision)  # fmt: skip
        graph.add_node(end, row=row, column=index + 1.0, shape="sum")
        graph.add_edge(before, box, kind="flow")
        graph.add_edge(box, end, kind="flow")
        graph.add_edge(before, end, kind=_shortcut_kind(unit, layer, inside))
        before = end
    return before


def _add_end(graph: nx.DiGraph, start: str, inside: Sequence[PlannedLayer]) -> str:
    """Add the stem or the classifier as one box; return it."""
    with_macs = [layer for layer in inside if layer.kind in ("conv", "linear")]
    first, last = with_macs[0], with_macs[-1]
    if len(with_macs) > 1:
        text = f"{len(with_macs)} convolutions\n{first.in_channels} → {last.out_channels}"
    elif first.kind == "linear":
        text = f"average pool\nlinear\n{first.in_channels} → {last.out_channels}"
    else:
        text = _box_text(first, inside)
    graph.add_node(
        first.name, row=graph.nodes[start]["row"], column=0.5, shape="box", text=text, precision=first.precision
    )  # fmt: skip
    graph.add_edge(start, first.name, kind="flow")
    return first.name


def _box_text(layer: PlannedLayer, inside: Sequence[PlannedLayer]) -> str:
    unit = layer.name.removesuffix(".conv")
    excited = any(other.role == "squeeze_excite" and other.name.startswith(f"{unit}.") for other in inside)
    is_pooled = layer.stride[0] == 1 and layer.in_size != layer.out_size
    shape = [f"{layer.groups} groups"] * (layer.groups > 1) + [f"stride {layer.stride[0]}"] * (layer.stride[0] > 1)
    shape += ["max pool"] * is_pooled
    more = [f"{layer.experts} experts"] * (layer.experts > 1) + ["SE"] * excited
    lines = [f"{by(layer.kernel)}, {layer.in_channels} → {layer.out_channels}", *_joined(shape, more)]
    return "\n".join(lines)


def _joined(*lists: list[str]) -> list[str]:
    return [", ".join(words) for words in lists if words]


def _part_text(part: str, inside: Sequence[PlannedLayer]) -> str:
    last = [layer for layer in inside if layer.role not in ("norm", "activation", "gate", "squeeze_excite")][-1]
    if last.kind == "linear":
        return f"{part}\n{last.out_channels} classes"
    return f"{part}\n{last.out_channels} channels\n{by(last.out_size)} pixels"


def _shortcut_kind(unit: str, layer: PlannedLayer, inside: Sequence[PlannedLayer]) -> str:
    if any(other.name.startswith(f"{unit}.shortcut.") for other in inside):
        return "convolved"
    same = (layer.in_channels, layer.in_size) == (layer.out_channels, layer.out_size)
    return "as it is" if same else "fitted"


def _draw_nodes(axes: Axes, graph: nx.DiGraph, places: Positions, ink: Ink) -> None:
    for kind in PRECISIONS:
        names = [name for name, of in graph.nodes(data="precision") if of == kind]
        for name in names:  # networkx draws round or square nodes only
            axes.add_patch(_box(places[name], PRECISION_FILL[kind]))
        texts = {name: graph.nodes[name]["text"] for name in names}
        nx.draw_networkx_labels(
            graph, places, labels=texts, ax=axes, font_size=_LETTERS, font_color=PRECISION_TEXT[kind]
        )
    shapes = {name: shape for name, shape in graph.nodes(data="shape") if shape != "box"}
    nx.draw_networkx_nodes(
        graph, places, nodelist=list(shapes), ax=axes, node_size=[_area(shape) for shape in shapes.values()],
        node_color=[ink.paper if shape == "sum" else ink.text for shape in shapes.values()], edgecolors=ink.text,
        linewidths=0.9,
    )  # fmt: skip
    sums = {name: "+" for name, shape in shapes.items() if shape == "sum"}
    nx.draw_networkx_labels(graph, places, labels=sums, ax=axes, font_size=9, font_color=ink.text)
    for name, shape in shapes.items():
        if shape == "start" and graph.nodes[name]["text"]:
            _name_part(axes, graph.nodes[name]["text"], places[name][1], ink)


def _box(place: tuple[float, float], colour: str) -> FancyBboxPatch:
    width, height = _DIAMETER["box"], _BOX_HEIGHT
    corner = (place[0] - width / 2, place[1] - height / 2)
    return FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.07", color=colour, linewidth=0)


def _name_part(axes: Axes, text: str, height: float, ink: Ink) -> None:
    title, _, rest = text.partition("\n")
    axes.text(0.15, height + 0.02, title, color=ink.text, fontsize=10, fontweight="bold", va="bottom")
    axes.text(0.15, height - 0.02, rest, color=ink.text, fontsize=SMALL, va="top", linespacing=1.35)


def _draw_edges(axes: Axes, graph: nx.DiGraph, places: Positions, ink: Ink) -> None:
    sizes = [_area(shape) for _, shape in graph.nodes(data="shape")]
    kinds = {"flow": (ink.text, "-", 0.0)} | {
        name: (PRECISION_FILL["real"] if name == "convolved" else ink.quiet, dashes, -0.62)
        for name, (_, dashes) in _SHORTCUTS.items()
    }
    for kind, (colour, dashes, bend) in kinds.items():
        nx.draw_networkx_edges(
            graph, places, edgelist=_edges(graph, kind), ax=axes, node_size=sizes, edge_color=colour, style=dashes,
            width=1.0 if kind == "flow" else 1.6, arrowstyle="-|>", arrowsize=8, connectionstyle=f"arc3,rad={bend}",
        )  # fmt: skip
    for source, target in _edges(graph, "next row"):
        axes.add_patch(_route(places[source], places[target], _DIAMETER[graph.nodes[source]["shape"]] / 2, ink))


def _route(source: tuple[float, float], target: tuple[float, float], radius: float, ink: Ink) -> FancyArrowPatch:
    """Return the way from the end of a row to the start of the next, through the gap between them."""
    (x, y), (to_x, to_y) = source, target
    right, left, middle = x + radius + 0.2, to_x - 0.25, y - 0.46
    corners = [(x + radius, y), (right, y), (right, middle), (left, middle), (left, to_y), (to_x - 0.05, to_y)]
    return FancyArrowPatch(
        path=Outline(corners), arrowstyle="-|>", mutation_scale=8, color=ink.text, linewidth=1.0, fill=False,
        joinstyle="round",
    )  # fmt: skip


def _draw_legend(axes: Axes, graph: nx.DiGraph, ink: Ink) -> None:
    """Name the colours and lines that occur."""
    used = {kind for _, kind in graph.nodes(data="precision")}
    drawn = {kind for _, _, kind in graph.edges(data="kind")}
    handles: list[Patch | Line2D] = [
        Patch(color=PRECISION_FILL[kind], label=PRECISION_SAID[kind]) for kind in PRECISIONS if kind in used
    ]
    handles += [
        Line2D([], [], color=PRECISION_FILL["real"] if kind == "convolved" else ink.quiet, linestyle=dashes, label=said,
               linewidth=1.6)
        for kind, (said, dashes) in _SHORTCUTS.items() if kind in drawn
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="lower left", ncols=2, frameon=False, fontsize=SMALL, labelcolor=ink.text,
        borderaxespad=0.8,
    )  # fmt: skip


def _edges(graph: nx.DiGraph, kind: str) -> list[tuple[str, str]]:
    return [(source, target) for source, target, of in graph.edges(data="kind") if of == kind]


def _area(shape: str) -> float:
    """Return the size of a marker as matplotlib takes it, in square points."""
    return (_POINTS * _DIAMETER[shape]) ** 2
