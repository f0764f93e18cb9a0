"""The Hugging Face hub: getting files of a repository, pinned, and putting a model folder there.

HF_HOME, HF_HUB_OFFLINE and HF_TOKEN mean what they mean to `huggingface_hub`, which also draws the
progress bars. Every way it can fail is one sentence here.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from dd2core.errors import DD2Error


def is_hub_id(name: str) -> bool:
    """Whether `name` reads like `owner/name` or `owner/name@revision`."""
    return name.partition("@")[0].count("/") == 1 and not name.startswith((".", "/", "~"))


def split_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """`owner/name@revision` → (`owner/name`, revision); an explicit `revision` comes first."""
    repo, _, pinned = name.partition("@")
    return repo, revision or pinned or None


def download(repo: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder with the files of a repository that match `patterns`, from the cache if there.

    Args:
        repo (str): `owner/name`.
        revision (str | None): branch, tag or commit; None is the hub's `main` of today.
        patterns (Sequence[str]): names, or patterns such as `*.json`.

    Returns:
        Path: its name is the commit that was taken.

    Raises:
        DD2Error: the repository cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # which kinds there are depends on the hub client's HTTP library
        at = f" at revision {revision}" if revision else ""
        raise DD2Error(
            f"The hub repository {repo}{at} cannot be had ({type(error).__name__}): {_advice()}."
        ) from None


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _advice() -> str:
    if _offline():
        return "HF_HUB_OFFLINE is set and it is not in the cache, unset it or copy the files here"
    return "check its name and the network"


def upload(folder: Path, repo: str, message: str) -> str:
    """Put a model folder into a repository, made if it is not there; returns the commit's address.

    Raises:
        DD2Error: no token, no network, or no right to.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    if not is_hub_id(repo):
        raise DD2Error(f"export_hub={repo} is no hub id: write owner/name.")
    try:
        api = HfApi()
        api.create_repo(repo, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))
    except LocalTokenNotFoundError:
        reason = "there is no token, log in with `hf auth login` or set HF_TOKEN"
    except Exception as error:  # see `download`
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code in (401, 403):
            reason = "the token is missing or may not write there, log in with `hf auth login`"
        elif _offline():
            reason = "HF_HUB_OFFLINE is set, unset it"
        else:
            reason = f"{type(error).__name__}, check its name and the network"
    raise DD2Error(f"{folder} cannot be uploaded to {repo}: {reason}; the folder itself is done.")
