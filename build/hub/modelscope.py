"""ModelScope, or a mirror of it, through modelscope_hub: the part of the modelscope package that talks to the hub.

As with Hugging Face the library lists, authorizes and answers, and build.hub.download writes the bytes, into the
library's own cache. ModelScope declares the sha256 of every file, small ones too.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from modelscope_hub import HubApi
from modelscope_hub.config import get_default_config
from modelscope_hub.errors import (
    APIError,
    AuthenticationError,
    HubError,
    InvalidParameter,
    NotExistError,
    PermissionDeniedError,
    RateLimitError,
)

from build.hub.remote import COMMIT, Body, Hiccup, RemoteFile, Snapshot, body_of
from build.steps import reason
from contract.errors import BuildError
from contract.sections import HUB_CACHE

TITLE = "ModelScope"
ENDPOINT = "MODELSCOPE_ENDPOINT"
TOKEN = "MODELSCOPE_API_TOKEN"  # noqa: S105
CACHE = HUB_CACHE["modelscope"]
_BLOCK = 1 << 16


@cache
def _api() -> HubApi:
    return HubApi()


def find(repo: str, revision: str) -> Snapshot:
    """The repository's files at a branch, tag or commit."""
    try:
        listed = _api().legacy.list_repo_files(repo, "model", revision)
    except (NotExistError, InvalidParameter) as error:
        raise _missing(error, repo, revision) from None
    except (HubError, OSError) as error:
        raise _why(error, repo) from None
    blobs = [entry for entry in listed if entry.get("Type") != "tree"]
    files = []
    for entry in blobs:
        if not entry.get("Sha256"):
            raise BuildError(f"the hub tells no hash of {repo}'s {entry['Path']}", fix=f"Check {ENDPOINT}")
        files.append(RemoteFile(entry["Path"], int(entry["Size"]), "sha256", entry["Sha256"].lower()))
    return Snapshot(repo, revision, _commit(blobs, revision), tuple(files))


def _commit(blobs: list[dict[str, Any]], revision: str) -> str:
    """The commit behind a branch or tag, which the listing does not tell: the last that changed any of its files."""
    if COMMIT.fullmatch(revision):
        return revision
    newest = max(blobs, key=lambda entry: entry.get("CommittedDate") or 0, default={})
    found = str(newest.get("Revision", ""))
    return found if COMMIT.fullmatch(found) else revision


@contextmanager
def receive(snapshot: Snapshot, file: RemoteFile, offset: int) -> Iterator[Body]:
    """A file's bytes from ``offset`` on, or from its start."""
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = _api().legacy.download_stream(snapshot.repo, "model", file.name, snapshot.commit, headers)
    except (HubError, OSError) as error:
        raise _why(error, snapshot.repo) from None
    try:
        yield body_of(response.status_code, response.headers, _chunks(response))
    finally:
        response.close()


def _chunks(response: Any) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_BLOCK)
    except OSError as error:  # requests' exceptions are such
        raise Hiccup(f"the connection was lost ({reason(error)})") from None


def home(repo: str) -> Path:
    """The repository's folder in the library's cache."""
    return get_default_config().cache_dir / "models" / repo.replace("/", "--")


def place(snapshot: Snapshot, file: RemoteFile) -> Path:
    """Where the library keeps the file of this commit."""
    return home(snapshot.repo) / "snapshots" / snapshot.commit.replace("/", "--") / file.name


def finish(snapshot: Snapshot, files: Iterable[RemoteFile]) -> Path:
    """The snapshot's folder: its files are there already."""
    return next(place(snapshot, file).parent for file in files)


def _missing(error: HubError, repo: str, revision: str) -> BuildError | Hiccup:
    """Whether the repository or only its revision is not there: a refused listing does not tell."""
    try:
        known = [entry["Revision"] for entry in _api().list_repo_revisions(repo, "model")]
    except (NotExistError, InvalidParameter):
        return BuildError(
            f"the hub has no {repo}, or shows it to its members only", fix=f"Correct source.repo, or set {TOKEN}"
        )
    except (HubError, OSError) as worse:
        return _why(worse, repo)
    if revision in known:
        return _why(error, repo)
    return BuildError(f"{repo} has no revision {revision}", fix=f"Correct source.revision; it has {', '.join(known)}")


def _why(error: Exception, repo: str) -> BuildError | Hiccup:
    """The library's exception in our terms."""
    match error:
        case AuthenticationError():
            return BuildError(f"the hub asks for a token to show {repo}", fix=f"Set {TOKEN}, or correct it")
        case PermissionDeniedError():
            return BuildError(
                f"{repo} is gated or private", fix=f"Ask for access at the hub and set {TOKEN} to a token of yours"
            )
        case RateLimitError():
            fix = f"Run it again later; {TOKEN} raises limits"
            return Hiccup("the hub limits the rate (429)", wait_s=error.retry_after, fix=fix)
        case APIError() if not error.retryable and error.status_code not in (408, 416):
            return BuildError(f"the hub answered: {error.message}", fix=f"Check source.repo and {ENDPOINT}")
        case APIError():
            return Hiccup(f"the hub answered {error.status_code or error.message}")
        case _:
            return Hiccup(f"the hub cannot be reached ({reason(error)})")
