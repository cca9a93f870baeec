"""The Hugging Face hub, or a mirror of it, through huggingface_hub.

Its snapshot_download would do, but for two things: since 1.x it starts a file again that a killed process left
half done, and it compares no hash. So the library lists, authorizes and answers, and the bytes are written by
build.hub.download. They go into the library's own cache, where vLLM and transformers find them too.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public by its documentation, not by its types
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

from build.hub.remote import COMMIT, Body, Hiccup, RemoteFile, Snapshot, body_of, seconds
from build.steps import reason, swap_link
from contract.errors import BuildError
from contract.sections import HUB_CACHE

TITLE = "Hugging Face"
ENDPOINT = "HF_ENDPOINT"
TOKEN = "HF_TOKEN"  # noqa: S105
CACHE = HUB_CACHE["huggingface"]
_TIMEOUT_S = 30.0  # of each wait for the hub; the library itself would wait for ever
_LISTING_WAITS_S = (0.5, 3.0)


def find(repo: str, revision: str) -> Snapshot:
    """The repository's files at a branch, tag or commit."""
    info = _info(repo, revision)
    files = []
    for sibling in info.siblings or []:
        if sibling.lfs:
            files.append(RemoteFile(sibling.rfilename, sibling.lfs.size, "sha256", sibling.lfs.sha256))
        elif sibling.blob_id and sibling.size is not None:
            files.append(RemoteFile(sibling.rfilename, sibling.size, "git-sha1", sibling.blob_id))
        else:
            raise BuildError(f"the hub tells no hash of {repo}'s {sibling.rfilename}", fix=f"Check {ENDPOINT}")
    if not COMMIT.fullmatch(info.sha or ""):
        raise BuildError(f"the hub tells no commit of {repo}@{revision}", fix=f"Check {ENDPOINT}")
    return Snapshot(repo, revision, str(info.sha), tuple(files))


def _info(repo: str, revision: str) -> ModelInfo:
    """The listing, which the library asks for once only."""
    for wait_s in (*_LISTING_WAITS_S, None):
        try:
            return HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, OSError) as error:
            why = _why(error, repo, revision)
            if wait_s is None or isinstance(why, BuildError) or (why.wait_s or 0) > wait_s:
                raise why from None
            time.sleep(wait_s)
    raise AssertionError


@contextmanager
def receive(snapshot: Snapshot, file: RemoteFile, offset: int) -> Iterator[Body]:
    """A file's bytes from ``offset`` on, or from its start."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = get_session().build_request(
        "GET", hf_hub_url(snapshot.repo, file.name, revision=snapshot.commit), headers=headers, timeout=_TIMEOUT_S
    )
    try:
        response = get_session().send(request, stream=True)
    except (httpx.HTTPError, OSError) as error:
        raise _why(error, snapshot.repo, snapshot.revision) from None
    try:
        try:
            hf_raise_for_status(response)
        except HfHubHTTPError as error:
            raise _why(error, snapshot.repo, snapshot.revision) from None
        yield body_of(response.status_code, response.headers, _chunks(response))
    finally:
        response.close()


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()
    except (httpx.HTTPError, OSError) as error:
        raise Hiccup(f"the connection was lost ({reason(error)})") from None


def home(repo: str) -> Path:
    """The repository's folder in the library's cache."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def place(snapshot: Snapshot, file: RemoteFile) -> Path:
    """Where the library keeps the content with this hash."""
    return home(snapshot.repo) / "blobs" / file.digest


def finish(snapshot: Snapshot, files: Iterable[RemoteFile]) -> Path:
    """Link the commit's names to the contents, and the revision's name to the commit, as the library does."""
    folder = home(snapshot.repo) / "snapshots" / snapshot.commit
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        swap_link(folder / file.name, f"../../blobs/{file.digest}")
    if snapshot.revision != snapshot.commit:
        ref = home(snapshot.repo) / "refs" / snapshot.revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(snapshot.commit)
    return folder


def _why(error: Exception, repo: str, revision: str) -> BuildError | Hiccup:
    """The library's exception in our terms."""
    match error:
        case OfflineModeIsEnabled():
            return BuildError(
                "HF_HUB_OFFLINE is set", fix="Unset it, or give the downloaded folder as source.kind: path"
            )
        case GatedRepoError():
            return BuildError(f"{repo} is gated", fix=f"Accept its terms at the hub and set {TOKEN}")
        case RepositoryNotFoundError():
            return BuildError(
                f"the hub has no {repo}, or shows it to its members only", fix=f"Correct source.repo, or set {TOKEN}"
            )
        case RevisionNotFoundError():
            return BuildError(f"{repo} has no revision {revision}", fix="Correct source.revision")
        case HfHubHTTPError():
            return _by_status(error.response, repo)
        case _:
            return Hiccup(f"the hub cannot be reached ({reason(error)})")


def _by_status(response: httpx.Response, repo: str) -> BuildError | Hiccup:
    status = response.status_code
    if status == 401:
        return BuildError("the hub does not know the token", fix=f"Correct {TOKEN}, or unset it for a public model")
    if status == 403:
        return BuildError(f"the hub refuses {repo} to this token", fix=f"Set {TOKEN} to one that may read it")
    if status == 429:
        limit = parse_ratelimit_headers(response.headers)
        wait_s = float(limit.reset_in_seconds) if limit else seconds(response.headers.get("Retry-After"))
        return Hiccup("the hub limits the rate (429)", wait_s=wait_s, fix=f"Run it again later; {TOKEN} raises limits")
    if status in (408, 416) or status >= 500:
        return Hiccup(f"the hub answered {status}", wait_s=seconds(response.headers.get("Retry-After")))
    return BuildError(f"the hub answered {status} for {response.url}", fix=f"Check {ENDPOINT}")
