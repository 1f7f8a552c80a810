"""A network of a run <-> its folder below that of the run, checked against the checksums that the run keeps."""

from pathlib import Path
from typing import Any

from torch import Tensor

from bnas.errors import RunError
from bnas.runs.lock import Access
from bnas.runs.log import RunLog
from bnas.runs.saved_network import ANEW, MANIFEST, SavedNetwork, network_files, read_network, write_network
from bnas.runs.sums import Sums, sha256


class KeptNetwork:
    """One network of a run, by the name of its folder."""

    def __init__(self, name: str, access: Access, sums: Sums, log: RunLog) -> None:
        self._name, self._manifest = name, f"{name}/{MANIFEST}"
        self._access, self._sums, self._log = access, sums, log

    @property
    def folder(self) -> Path:
        """Where it lies; `bnas.load` makes a module of it."""
        return self._access.inside(self._name)

    def write(self, description_yaml: str, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> None:
        """Write its three files, together or not at all.

        Args:
            description_yaml: of its architecture.
            tensors: its weights by name.
            manifest: what is known of it; the checksums of the other two files are added.
        Raises:
            RunError: it cannot be written; the one before it is intact.
        """
        files = network_files(description_yaml, tensors, manifest)
        with self._sums.writing(self._manifest, sha256(files[MANIFEST])):
            write_network(self._access.target(self._name), files, check=self._access.check)

    def was_written(self) -> bool:
        """Whether it was written; it may be damaged, or gone since."""
        return self._sums.has(self._manifest) or self.folder.exists()

    def is_sound(self) -> bool:
        """Whether it is there and sound; one that is damaged is named in the log."""
        if not self.was_written():
            return False
        try:
            self.read()
        except RunError as problem:
            self._log.warn(str(problem))
            return False
        return True

    def read(self) -> SavedNetwork:
        """Return its description, weights and manifest.

        Raises:
            RunError: there is none yet, or one of its files is not the one that was written.
        """
        found = read_network(self.folder)
        self._sums.read(self._manifest, hint=ANEW)
        return found
