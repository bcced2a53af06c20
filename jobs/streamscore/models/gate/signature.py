"""The signature of a manifest, which proves that the holder of the private key made the manifest.

The signature is Ed25519 (RFC 8032) over the bytes of the manifest, in base64, in a file beside it. The manifest has the
sha256 of every other file, so the signature covers these too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from streamscore.errors import ModelError

SIGNATURE: Final = "streamscore.json.sig"
"""Name of the signature's file in a model's folder."""

MAX_BYTES: Final = 1024


def sign(manifest: bytes, key_file: Path) -> str:
    """Return the signature of a manifest as the content of the signature's file.

    Args:
        manifest: content of the manifest's file.
        key_file: the private key, PEM without a password.

    Raises:
        ModelError: the file cannot be read or is not an Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
    except OSError as error:
        raise ModelError(f"{key_file}: the private key cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelError(
            f"{key_file}: not an Ed25519 private key in PEM without a password. Make one with "
            "`openssl genpkey -algorithm ed25519 -out key.pem`"
        )
    return base64.b64encode(key.sign(manifest)).decode() + "\n"


def require_valid(manifest: bytes, text: bytes, public_keys: Sequence[bytes], place: str) -> None:
    """Check that one of the trusted keys has signed a manifest.

    Args:
        manifest: content of the manifest's file.
        text: content of the signature's file.
        public_keys: the trusted keys, each of 32 bytes.
        place: the signature's file, for messages.

    Raises:
        ModelError: no trusted key has signed the manifest.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise ModelError(f"{place}: not a signature: it is not base64") from None
    for key in public_keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, manifest)
        except InvalidSignature:
            continue
        return
    raise ModelError(
        f"{place}: none of the {len(public_keys)} keys in signatures.public_keys has signed this manifest: another key "
        "signed it, or it has changed since"
    )
