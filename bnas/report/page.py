"""A run folder -> its figures and one self-contained HTML page."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from bnas.amounts import percent, show, unbroken
from bnas.cost.plan import plan
from bnas.cost.totals import cost
from bnas.data.facts import Guessing
from bnas.report import words
from bnas.report.classes import classes_context, images_sentence
from bnas.report.confusion_figure import draw_confusion
from bnas.report.figures import draw_layers, draw_losses, draw_pareto, draw_search
from bnas.report.final_training import final_sentence
from bnas.report.findings import Findings, paid_rows, read_findings
from bnas.report.ink import DPI, INKS, Ink
from bnas.report.ranking_figure import draw_ranking
from bnas.report.tables import (
    by,
    cost_table,
    facts_table,
    front_table,
    layer_table,
    ledger_table,
    ranking_table,
    retrained_table,
    settings_table,
    stage_table,
)
from bnas.report.topology import draw_topology
from bnas.runs import Run, replacing
from bnas.runs.documents import write_text
from bnas.searcher.ranking import Ranking
from bnas.space.arch import Architecture
from bnas.space.latency import parts_of

CSS_PIXELS = 96  # in an inch
COLOURS = 128  # of a picture; what is smoothed between two of them is a little coarser


class Picture(NamedTuple):
    """A figure as the page holds it."""

    uri: str  # the PNG itself, as a data URI
    width: int  # CSS pixels


def write_report(run: Run) -> Path:
    """Write figures/*.png and report.html for what a run has found so far; return the path of the page.

    Raises:
        RunError, SpecError: a file of the run is damaged, or the report cannot be written.
    """
    found = read_findings(run)
    images = write_figures(run.figures, _drawings(found))
    write_text(run.report, text=render(found, images))
    return run.report


def render(found: Findings, images: dict[str, Picture]) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        found: what the run has found.
        images: by name of the figure, dark ones by name with `-dark` after it.
    """
    return rendered("page.html.j2", images=images, **_context(found))


def rendered(template: str, **context: Any) -> str:
    """Return a page of ours as HTML."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
        finalize=lambda value: unbroken(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )  # fmt: skip
    return environment.get_template(template).render(**context)


def _drawings(found: Findings) -> dict[str, Callable[[Ink], Figure]]:
    """Return what can be drawn of a run, by name of the figure."""
    drawings: dict[str, Callable[[Ink], Figure]] = {}
    if len(paid_rows(found.candidates)):
        drawings |= {"pareto": lambda ink: draw_pareto(found, ink), "search": lambda ink: draw_search(found, ink)}
    if found.losses:
        drawings["losses"] = lambda ink: draw_losses(found, ink)
    if found.ranking:
        ranking = Ranking.known(found.ranking)
        drawings["ranking"] = lambda ink: draw_ranking(found.ranked, ranking, ink)
    if found.classes:
        classes = found.classes
        drawings["confusion"] = lambda ink: draw_confusion(classes, ink)
    if found.subject:
        layers = plan(found.subject)
        drawings |= {
            "topology": lambda ink: draw_topology(layers, ink),
            "layers": lambda ink: draw_layers(layers, ink),
        }
    return drawings


def write_figures(folder: Path, drawings: Mapping[str, Callable[[Ink], Figure]]) -> dict[str, Picture]:
    """Write each figure on light and on dark paper; return what the page holds of them."""
    images = {}
    for name, draw in drawings.items():
        for suffix, ink in INKS.items():
            path = folder / f"{name}{suffix}.png"
            image = painted(draw(ink))
            with replacing(path) as temporary:
                image.save(temporary, format="png")
            images[path.stem] = _picture(path)
    return images


def painted(figure: Figure) -> Image.Image:
    """Return a figure as an image of few colours, which takes a third of the room on a page."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def _picture(path: Path) -> Picture:
    with Image.open(path) as image:
        width = round(CSS_PIXELS * image.width / DPI)
    return Picture(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", width)


def _context(found: Findings) -> dict[str, Any]:
    """Return what the template asks for; parts that are not there yet are None."""
    has_front, retrained = len(found.front) > 0, found.retrained
    ids = set(retrained["id"]) if len(retrained) else set()
    return {
        "name": found.folder.name,
        "data": found.config.get("data", "unnamed data"),
        "headline": _headline(found),
        "finished": found.manifest is not None,
        "searched": found.searched,
        "missing": words.missing(found),
        "work": words.work_sentence(found),
        "taught": words.teacher_sentence(found),
        "images_said": images_sentence(found.config.get("images", {})),
        **classes_context(found.classes),
        "counted": words.COUNTED,
        "front": front_table(found.front, best=found.best_id, retrained=ids) if has_front else None,
        "twin": words.twin_sentence(found.candidates, found.twin),
        "trust": found.ranking,
        "ranking": ranking_table(found.ranking) if found.ranking else None,
        "ledger": ledger_table(found.candidates, found.twin),
        "inherits": found.space.search.retrain.start == "supernet",
        "alike": words.trained_sentence(retrained),
        "reused": words.reused_sentence(found),
        "final": final_sentence(found.manifest or {}),
        "retrained": retrained_table(retrained, best=found.best_id) if len(retrained) else None,
        "export": words.export_line(found),
        "again": words.search_line(found),
        "settings": settings_table(found.config),
        "environment": facts_table(found.environment),
        "proof": facts_table(words.proof(found.manifest)) if found.manifest else None,
        **_network(found, found.subject),
    }


def _network(found: Findings, arch: Architecture | None) -> dict[str, Any]:
    if arch is None:
        return {"stages": None, "tiles": []}
    layers = plan(arch)
    table = found.space.latency
    price = cost(layers)._replace(nanoseconds=table.of(parts_of(arch)) if table else 0)
    return {
        "tiles": words.tiles(found, price),
        "architecture_id": arch.id,
        "image": by(arch.input),
        "classes": arch.classes,
        "binarizers": arch.binarizers,
        "stages": stage_table(arch),
        "costs": cost_table(price, cost(plan(arch.as_real()))),
        "layers": layer_table(layers),
    }


def _headline(found: Findings) -> str:
    """Return the answer in one line."""
    if found.subject is None:
        return "Nothing has been scored yet"
    price = cost(plan(found.subject))
    costs = f"{show(price.ops)} ops and {show(price.bytes)} bytes"
    if not found.manifest:
        return f"Unfinished: the leading candidate takes {costs}"
    accuracy, guessing = found.manifest["accuracy"]["test"], Guessing.known(found.manifest)
    return f"{percent(accuracy)} test accuracy with {costs}{guessing.remark(accuracy) if guessing else ''}"
