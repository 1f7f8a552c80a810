"""The JSON schemas of spaces, architectures and recipes -> the tables of keys in the pages that ask for them.

A page asks by a line `<!-- keys of NAME -->`, the name of a description; what stands between it and `<!-- end -->` is
made anew by `python docs/keys.py`. A test says whether it is.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from bnas.space.arch import Architecture
from bnas.space.recipe import Recipe
from bnas.space.space import SearchSpace

PAGES = Path(__file__).parent
ASKED = re.compile(r"(<!-- keys of (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
HOMES = {
    name: path.name for path in PAGES.glob("*.md") for _, name, _ in ASKED.findall(path.read_text(encoding="utf-8"))
}
WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "left out",
}
BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
UNSTATED = object()  # a default may be None


def described() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each description that people write, by its name."""
    kinds = [(kind, "validation") for kind in (SearchSpace, Architecture, Recipe)]
    _, whole = models_json_schema(kinds)  # type: ignore[arg-type]
    return whole["$defs"]


def table(schema: dict[str, Any]) -> str:
    """Return a description's keys as a Markdown table: name, what may stand there, default, meaning."""
    rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = "required" if name in required else shown(field.get("default", UNSTATED))
        meaning = field["description"].replace("|", "\\|")
        rows.append(f"| `{name}` | {takes(field)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def takes(field: dict[str, Any]) -> str:
    """Return in words what a schema admits."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}]({HOMES[name]}#{name.lower()})" if name in HOMES else name
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "anyOf" in field:
        return either([takes(option) for option in field["anyOf"]])
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}: {takes(field['prefixItems'][0])} each"
    if field["type"] == "array":
        most = f", at most {field['maxItems']}" if "maxItems" in field else ""
        return f"list of {takes(field['items'])}{most}"
    if field["type"] == "object":
        return f"`key: value`, each {takes(field['additionalProperties'])}"
    bounds = " ".join(words.format(field[key]) for key, words in BOUNDS.items() if key in field)
    return f"{WORDS[field['type']]} {bounds}".strip()


def either(options: list[str]) -> str:
    """Return options in words; of a list of what may stand alone, too, the list goes without saying."""
    first, *others = dict.fromkeys(options)
    if others and first.startswith(f"list of {others[0]}"):
        return " or ".join([f"one or several: {others[0]}", *others[1:]])
    return " or ".join([first, *others])


def shown(value: object) -> str:
    """Return a default as YAML; a description's own defaults stand in its own table."""
    if value is UNSTATED or isinstance(value, dict) or value in ([], None):
        return ""
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    return f"`{text}`"


def written(page: str) -> str:
    """Return a page with its tables made anew.

    Raises:
        KeyError: a page asks for a description that is none.
    """
    schemas = described()
    return ASKED.sub(lambda found: f"{found[1]}\n{table(schemas[found[2]])}\n{found[3]}", page)


if __name__ == "__main__":
    for path in PAGES.glob("*.md"):
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
