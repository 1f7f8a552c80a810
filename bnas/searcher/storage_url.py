"""The URL of an Optuna storage -> checked to mean what it says, and shown without what may be a secret.

What is not clearly a URL may have its password anywhere: of that nothing is shown, and no library sees it.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from bnas.errors import RunError

_HIDDEN = "***"
_NAME = r"[\w.~%+-]"
_SERVER = re.compile(
    r"(?P<scheme>(?:postgresql|mysql|mariadb|oracle|mssql)(?:\+[a-z0-9_]+)?)://"
    rf"(?:(?P<user>{_NAME}+)(?P<secret>:(?P<password>[^\s:/@?#]*))?@)?"
    rf"(?P<host>\[[0-9a-fA-F:.]+\]|[\w.-]*)(?::\d{{1,5}})?/(?P<database>{_NAME}*)(?P<options>\?[^\s#]*)?",
    re.ASCII,
)
_FILE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<path>[^?]+)(?P<options>\?.*)?", re.DOTALL)
_PATH = re.compile(r"(?:sqlite:/{0,2})?(?P<path>[\w./\\ -]+\.(?:db|sqlite3?))", re.ASCII)  # of a file, by its ending
_EXAMPLES = "postgresql+psycopg://user:password@host/name or sqlite:///study.db"


def check_url(url: str) -> None:
    """Check that a text is clearly the URL of a database: else a part of the password might be taken for the host.

    Raises:
        RunError: it is not; says nothing of it that may be secret.
    """
    if _SERVER.fullmatch(url) or _FILE.fullmatch(url):
        return
    path = _PATH.fullmatch(url)
    if path:
        raise RunError(f"storage {url}: must be the URL of a database; for a file write sqlite:///{path['path']}")
    raise RunError(
        f"storage {shown(url)}: must be the URL of a database, as in {_EXAMPLES}, with @ : / ? # in user and password "
        "written %40 %3A %2F %3F %23"
    )


def shown(url: str) -> str:
    """Return a URL as messages show it: without password and options; of what is no clear URL, nothing."""
    file, server = _FILE.fullmatch(url), _SERVER.fullmatch(url)
    if file:
        return f"sqlite:///{file['path']}" + (f"?{_HIDDEN}" if file["options"] else "")
    if not server:
        return _HIDDEN
    user = f"{server['user']}{f':{_HIDDEN}' if server['secret'] else ''}@" if server["user"] else ""
    options = f"?{_HIDDEN}" if server["options"] else ""
    return f"{server['scheme']}://{user}{server['host']}/{server['database']}{options}"


def without_secrets_of(url: str, text: str) -> str:
    """Return a text of others, as a database writes it, without the password and the options of a URL."""
    server = _SERVER.fullmatch(url)
    secrets = [server["password"] or "", (server["options"] or "")[1:]] if server else []
    options = secrets[1].split("&") if server else []
    secrets += [option.partition("=")[2] for option in options]
    for secret in sorted({form for part in secrets for form in (part, unquote(part))}, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN) if secret else text
    return text


def is_file(url: str) -> bool:
    """Whether the storage is a file of SQLite."""
    return _FILE.fullmatch(url) is not None


def file_of(url: str) -> Path | None:
    """Return the file of SQLite that a URL means; None where it is a server, in memory, or has options."""
    file = _FILE.fullmatch(url)
    if not file or file["options"] or file["path"].startswith((":memory:", "file:")):
        return None
    return Path(file["path"])
