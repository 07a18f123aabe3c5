"""Presets on the Hugging Face Hub, by its own client (`pip install 'rnnzoo[hub]'`)."""

import os
import pathlib
import re
from typing import Any

from rnnzoo import _checks
from rnnzoo.presets.folder import FILES, check

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def is_address(preset: str) -> bool:
    """Whether `preset` is meant as a repository of the hub."""
    return preset.startswith(SCHEME)


def download(address: str) -> pathlib.Path:
    """The folder of a preset of the hub, from the client's cache where it is there.

    Raises:
        ValueError: what is no 'hf://user/name', or a repository that holds no whole preset.
        ImportError: the client is not installed.
        OSError: the hub cannot be reached, or has no such repository, or not for this user.
    """
    name, revision = _parts(address)
    client = _client()
    try:
        folder = client.snapshot_download(name, revision=revision, allow_patterns=list(FILES))
    except Exception as error:  # of the client, of the network, of the server
        otherwise = (
            "Without network: fetch the repository elsewhere and give its folder to from_preset, "
            "or set HF_HOME to a cache that holds it"
        )
        rule = f"{address} must be on the hub and reachable"
        raise _failed(client, rule, error, otherwise) from error
    folder = pathlib.Path(folder)
    try:
        check(folder)
    except ValueError as error:
        # The client takes what it has for good, whatever became of it on the disk.
        cache = str(folder.parents[1])
        raise ValueError(f"{error} It is fetched anew where {cache!r} is removed.") from error
    return folder


def upload(folder: str | os.PathLike, address: str, *, private: bool = False) -> str:
    """The address of the page of a preset that was put on the hub; asks for a token as `hf` does.

    Args:
        folder: a preset, as `save` wrote it.
        address: 'hf://user/name'; the repository is made where it is not there.
        private: whether a new repository is for its owner only.

    Raises:
        ValueError: a folder that is no whole preset, a card without the licences of data and
            of weights, or what is no 'hf://user/name'.
        ImportError: the client is not installed.
        OSError: the hub cannot be reached, or refuses.
    """
    folder = _checks.path("folder", folder)
    name, revision = _parts(address)
    if revision is not None:
        raise _checks.refuse("address", "'hf://user/name', without a revision", address)
    _checks.flag("private", private)
    check(folder).check_licence()
    client = _client()
    api = client.HfApi(library_name="rnnzoo")
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(FILES))
    except Exception as error:  # of the client, of the network, of the server
        rule = f"{folder} must reach {address}"
        raise _failed(client, rule, error, "The hub must be reachable") from error
    return str(url)


def _failed(client: Any, rule: str, error: Exception, otherwise: str) -> Exception:
    """The error that a call of `client` ended with, with what to do, to be raised."""
    told = f"{rule}; received {type(error).__name__}: {str(error).rstrip('. ')}"
    if isinstance(error, client.errors.HFValidationError):
        return ValueError(told)
    refused = getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404)
    login = "What is not open to all needs a login: `hf auth login`, or HF_TOKEN"
    return OSError(f"{told}. {login if refused else otherwise}.")


def _parts(address: str) -> tuple[str, str | None]:
    match = _ADDRESS.fullmatch(_checks.text("address", address))
    if match is None:
        raise _checks.refuse("address", "'hf://user/name' or 'hf://user/name@revision'", address)
    return match.group(1), match.group(2)


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "presets on a hub need huggingface_hub: pip install 'rnnzoo[hub]'"
        ) from error
    return huggingface_hub
