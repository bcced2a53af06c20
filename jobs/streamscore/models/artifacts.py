"""The files of a model in MLflow: what keeps them from being fetched, and whether they are a Spark model's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streamscore.errors import ModelError, ServerError

ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"})
"""MLflow's codes for an address without a model or without files."""

_CLIENTS: Final = {
    "boto3": ("S3", "boto3", "s3"),
    "botocore": ("S3", "boto3", "s3"),
    "google": ("Google Cloud Storage", "google-cloud-storage", "gcs"),
    "azure": ("Azure", "azure-storage-blob azure-storage-file-datalake azure-identity", "azure"),
}
"""By the first name of a missing module: the store, the packages to install, and our extra with them."""

_OUT_OF_REACH: Final = re.compile(r"(dbfs|hdfs|viewfs|s?ftp|file):|/", re.IGNORECASE)
"""Where a model's files may be that are not fetched from a server whose absence may be temporary."""

_FLAVOURS: Final = re.compile(r"^flavors:[^\n]*\n((?:[ \t]+[^\n]*\n|\n)*)", re.MULTILINE)
_FLAVOUR: Final = re.compile(r"^  ([\w.-]+):", re.MULTILINE)
_LARGEST_MLMODEL: Final = 1 << 20


def one_line(error: BaseException) -> str:
    """Return an exception's text as one line."""
    return " ".join(str(error).split())[:500] or type(error).__name__


@contextmanager
def fetching(uri: str, place: Callable[[], str]) -> Iterator[None]:
    """Re-raise whatever keeps a model's files from being fetched as one of our errors, in one line.

    Args:
        uri: the model's address.
        place: returns the address of its files, as far as MLflow tells it; empty if not.

    Raises:
        ModelError: there are no such files, they are out of reach from here, or the client of their store is not
            installed.
        ServerError: the server that has the files cannot be reached.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (each store's client has its own errors)
        source = place()
        beginning = f"{uri}: its files{f' ({source})' if source else ''}"
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in _CLIENTS:
            store, packages, extra = _CLIENTS[(error.name or "").partition(".")[0]]
            raise ModelError(
                f"{beginning} are on {store}, whose client is not installed: pip install {packages} (what the extra "
                f"{extra} of streamscore brings)"
            ) from None
        is_absent = getattr(error, "error_code", None) in ABSENT
        reason = f"{beginning} cannot be fetched from here: {one_line(error)}"
        if is_absent or isinstance(error, (ImportError, FileNotFoundError)) or _OUT_OF_REACH.match(source):
            raise ModelError(
                f"{reason}. Register the model from a place that this machine reaches, or give the path of a copy in "
                "models.N.uri"
            ) from None
        raise ServerError(reason) from None


def require_files(folder: Path) -> None:
    """Refuse an empty folder, which is what MLflow makes of a folder that is not on this machine.

    Raises:
        FileNotFoundError: the folder is empty.
    """
    if not any(folder.iterdir()):
        raise FileNotFoundError("there are none")


def require_spark(folder: Path, uri: str) -> None:
    """Refuse what another library than Spark has logged.

    Args:
        folder: the downloaded model.
        uri: its address, for the message.

    Raises:
        ModelError: MLflow's description of the model has other flavours only.
    """
    description = folder / "MLmodel"
    if not description.is_file() or description.stat().st_size > _LARGEST_MLMODEL:
        return  # a plain folder, or the gate's business
    block = _FLAVOURS.search(description.read_text(encoding="utf-8", errors="replace") + "\n")
    flavours = _FLAVOUR.findall(block[1]) if block else []
    if flavours and "spark" not in flavours:
        raise ModelError(
            f"{uri} is no Spark model: MLflow names the flavours {', '.join(flavours)}. Only a PipelineModel that "
            "mlflow.spark.log_model or .save_model wrote can be scored"
        )
