"""A real PostgreSQL server of the tests' own, from Debian's programs, as a user without rights, on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

PASSWORD = "geh:eim/n@is"
_NOBODY = 65534
_SETTINGS = ("fsync=off", "shared_buffers=16MB", "max_connections=60", "listen_addresses=127.0.0.1")


def programs() -> Path | None:
    """Return the folder with the server's programs, where there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    here = shutil.which("postgres")
    return found[-1].parent if found else Path(here).parent if here else None


class Server:
    """A server that can be stopped and started again; what it holds stays."""

    def __init__(self, folder: Path) -> None:
        self._programs, self._folder = programs(), folder
        self._data = folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        self._run("initdb", "-D", self._data, "-U", "bnas", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")

    @property
    def url(self) -> str:
        """The URL of its first database, password and all."""
        return self.database("postgres")

    def database(self, name: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql+psycopg://bnas:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [self._program("postgres"), "-D", self._data, "-p", self.port, "-k", self._folder, *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(list(map(str, command)), stderr=log, stdout=log, **_as_nobody())
        deadline = time.monotonic() + 60
        while subprocess.run(
            [str(self._program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        ).returncode:
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it without a farewell to whoever is connected."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._program(program)), *map(str, arguments)], capture_output=True, text=True, **_as_nobody()
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _program(self, name: str) -> Path:
        assert self._programs is not None
        return self._programs / name


def own_folder() -> Path:
    """Return a folder that belongs to the user whom the server runs as."""
    folder = Path(tempfile.mkdtemp(prefix="bnas-postgres-"))
    if os.getuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    return folder


def _as_nobody() -> dict:
    """The server refuses to run as root."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": [], "cwd": "/"} if os.getuid() == 0 else {}
