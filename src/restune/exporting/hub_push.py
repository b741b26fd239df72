"""Upload a model with its card and exports to a repository of the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.exporting.hub_card import CARD, FOLDER, hub_card, is_non_commercial
from restune.inference.model import Model
from restune.weights.bundle import read_info

WHERE = "--push-to-hub"


def full_name(repo: str) -> str:
    """Return USER/NAME of a repository; of NAME alone, with the user of the token.

    Asks the hub who the token belongs to, so that what would fail after an export fails before it. Raises UserError
    for a name that the hub does not take, without a token, and where the hub cannot be reached or refuses the token.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except errors.HFValidationError as error:
        reason = _first_line(error)
        raise UserError(
            f"{repo!r} cannot name a repository of the hub: {reason}",
            where=WHERE,
            fix="write USER/NAME, with letters, digits, '-', '_' and '.'",
        ) from error
    hub = _hub()
    try:
        user = hub.whoami()["name"]
    except Exception as error:  # the HTTP library's errors differ between the hub's versions
        raise _hub_error(error, repo, None) from error
    return repo if "/" in repo else f"{user}/{repo}"


def push(repo: str, model: Model, out: Path, files: Sequence[str], loads: Mapping[str, str], *, public: bool) -> str:
    """Upload card, bundle and exported files in one commit, and return the repository's URL.

    Args:
        repo: USER/NAME; created if missing.
        model: of which the files are exports; its bundle is uploaded, too.
        out: the folder with the files.
        files: their names there.
        loads: by target, the call that loads it, for the card.
        public: a new repository can be seen by everyone; otherwise by its owners alone.

    Raises UserError where the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd

    _say_licence(model.info.licence)
    content: dict[str, bytes | Path] = {f"{FOLDER}/{name}": out / name for name in files}
    bundle = user_path(model.source)
    if bundle.is_file() and read_info(bundle) is not None:
        content["model.safetensors"] = bundle
    else:
        warn("only the exports are uploaded: the model is not a bundle of restune's")
    content[CARD] = hub_card(model, bundle.parent, loads).encode()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=one) for name, one in content.items()]
    hub = _hub()
    try:
        address = hub.create_repo(repo, private=not public, exist_ok=True)
        hub.create_commit(repo, operations, commit_message="Model, card and exports, written by restune")
        private = bool(hub.model_info(repo).private)
    except Exception as error:
        raise _hub_error(error, repo, out) from error
    count, seen = len(content), "private" if private else "public"
    note(f"uploaded {count} files to {address} ({seen})")
    if private == public:
        warn(f"{repo} was there before and stays {seen}")
    return str(address)


def _say_licence(licence: str | None) -> None:
    if licence is None:
        warn("the licence of the weights is not known: the card names none, so others may not use the model")
    elif is_non_commercial(licence):
        warn(f"the weights' licence {licence} forbids commercial use: it holds for the uploaded files too")
    else:
        note(f"the weights' licence: {licence}")


def _hub() -> Any:
    """Return the hub's client: its token is the one that `hf auth login` stored, or HF_TOKEN."""
    from huggingface_hub import HfApi

    # the hub library reads HF_ENDPOINT only at its first import
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="restune")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")


def _hub_error(error: Exception, repo: str, out: Path | None) -> UserError:
    """Describe an error of the hub: no token, a refused one, no right, or not reached.

    Args:
        out: where the exports are, if they are written already.
    """
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = _first_line(error)
    if isinstance(error, errors.LocalTokenNotFoundError):
        what, fix = "there is no token for the hub", "run `hf auth login`, or set HF_TOKEN"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        what, fix = "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
    elif status == 401:
        what, fix = "the hub refuses the token", "run `hf auth login` with a valid token"
    elif status == 403:
        what = f"the token may not write to {repo}"
        fix = "use a token with the right to write, or a repository of your own"
    else:
        what, fix = f"cannot upload to {repo}: {reason}", "check the network, then run again"
    return UserError(what if out is None else f"{what}; the exports are in {out}", where=WHERE, fix=fix)
