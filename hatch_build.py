"""README.md -> the same text for an index page, which has neither the pictures nor the files that it links to.

With `BNAS_SOURCE` set to where the files of this version can be read on the web, `https://HOST/OWNER/bnas/blob/v0.1.0`
or the like, and `BNAS_PICTURES` where that is another place for pictures, links and pictures become absolute. Without,
the pictures and the links of files are left out, so that none is broken.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"^!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)\n", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


def for_index(text: str, *, source: str = "", pictures: str = "") -> str:
    """Return the README with absolute links and pictures; without those for which no place is given."""
    shown = pictures or source
    picture = rf"![\1]({shown.rstrip('/')}/\2)\n" if shown else ""
    link = rf"[\1]({source.rstrip('/')}/\2)" if source else r"\1"
    return _LINK.sub(link, _PICTURE.sub(picture, text))


class Readme(MetadataHookInterface):
    """Gives the build its long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set it, from the README beside this file."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        places = {"source": os.environ.get("BNAS_SOURCE", ""), "pictures": os.environ.get("BNAS_PICTURES", "")}
        metadata["readme"] = {"content-type": "text/markdown", "text": for_index(text, **places)}
