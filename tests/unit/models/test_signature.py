"""Signatures: with `trust: signed` a manifest counts only if the holder of a trusted key has signed it."""

import base64
import json
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from folders import MANIFEST, PARQUET, SCALER, refusal, write_manifest, write_model
from typer.testing import CliRunner

from streamscore import models
from streamscore.cli import app
from streamscore.config import load
from streamscore.errors import ConfigError, ModelError
from streamscore.models import gate
from streamscore.models.gate.files import LocalFiles

SIGNATURE = "streamscore.json.sig"
PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.fixture
def make_key(tmp_path):
    """Return a function that makes a key pair: the private key's file and the 32 bytes of the public key."""

    def make(name="key"):
        private = Ed25519PrivateKey.generate()
        (tmp_path / f"{name}.pem").write_bytes(private.private_bytes(*PEM))
        return tmp_path / f"{name}.pem", private.public_key().public_bytes_raw()

    return make


@pytest.fixture
def folder(tmp_path):
    """A model's folder with a manifest."""
    folder = write_model(tmp_path / "model")
    write_manifest(folder)
    return folder


def test_signed_manifest_passes(folder, make_key):
    """A signature by any trusted key passes, so that keys can be rotated."""
    (old_file, old), (_, new) = make_key("old"), make_key("new")
    models.add_signature(folder, old_file)

    for keys in ([old], [new, old]):
        assert gate.inspect(LocalFiles(folder), "signed", keys).manifest
    assert (
        gate.inspect(LocalFiles(folder), "unsigned").hashes == gate.inspect(LocalFiles(folder), "signed", keys).hashes
    )
    assert SIGNATURE not in gate.inspect(LocalFiles(folder)).hashes


def tampered_file(folder):
    """Change a file of the model and its manifest, as an attacker with write access can."""
    file = folder / SCALER / "data" / PARQUET
    manifest = json.loads((folder / MANIFEST).read_text())
    pq.write_table(pa.table({"value": [2.0]}), file)
    manifest["files"][f"{SCALER}/data/{PARQUET}"] = LocalFiles(folder).sha256(f"{SCALER}/data/{PARQUET}")
    (folder / MANIFEST).write_text(json.dumps(manifest))


TAMPERED = {
    "file": (
        lambda f: (f / SCALER / "data" / PARQUET).write_bytes(b"PAR1"),
        f"{SCALER}/data/{PARQUET}: its content has changed",
    ),
    "file and manifest": (tampered_file, f"{SIGNATURE}: none of the 1 keys in signatures.public_keys has signed"),
    "manifest": (
        lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text().replace("0.75", "0.99")),
        f"{SIGNATURE}: none of the 1 keys",
    ),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), f"{MANIFEST}: there is no manifest"),
    "no signature": (lambda f: (f / SIGNATURE).unlink(), f"{SIGNATURE}: there is no signature"),
    "empty signature": (lambda f: (f / SIGNATURE).write_text(""), f"{SIGNATURE}: none of the 1 keys"),
    "signature that is none": (lambda f: (f / SIGNATURE).write_text("{}"), f"{SIGNATURE}: not a signature"),
    "signature of zeros": (
        lambda f: (f / SIGNATURE).write_bytes(base64.b64encode(bytes(64))),
        f"{SIGNATURE}: none of the 1 keys",
    ),
    "huge signature": (lambda f: (f / SIGNATURE).write_text("A" * 2000), f"{SIGNATURE}: it is longer than 1,024"),
    "linked signature": (
        lambda f: ((f / SIGNATURE).rename(f.parent / "sig"), (f / SIGNATURE).symlink_to(f.parent / "sig")),
        f"{SIGNATURE}: a link is refused",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_model_that_is_not_as_it_was_signed_is_refused(folder, make_key, name):
    """A changed model is refused even if its manifest matches."""
    file, public = make_key()
    models.add_signature(folder, file)
    TAMPERED[name][0](folder)

    assert refusal(folder, "signed", [public]).startswith(TAMPERED[name][1]), refusal(folder, "signed", [public])


def test_signature_of_another_key_is_refused(folder, make_key):
    """A signature by an untrusted key is refused."""
    models.add_signature(folder, make_key("other")[0])
    keys = [make_key("one")[1], make_key("two")[1]]

    assert "none of the 2 keys in signatures.public_keys has signed this manifest" in refusal(folder, "signed", keys)


def test_only_a_model_that_is_as_its_manifest_says_is_signed(folder, make_key, tmp_path):
    """A model that differs from its manifest is not signed."""
    file, _ = make_key()
    (folder / SCALER / "data" / PARQUET).write_bytes(b"PAR1")

    with pytest.raises(ModelError, match="its content has changed since the training"):
        models.add_signature(folder, file)
    with pytest.raises(ModelError, match="there is no such folder"):
        models.add_signature(tmp_path / "nowhere", file)
    assert not (folder / SIGNATURE).exists()


def test_key_that_cannot_sign_is_told(folder, tmp_path):
    """The message has the command that makes a valid key."""
    (tmp_path / "ec.pem").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM))
    (tmp_path / "text.pem").write_text("key")

    for name in ("ec.pem", "text.pem"):
        with pytest.raises(ModelError, match=rf"{name}: not an Ed25519 private key .*openssl genpkey"):
            models.add_signature(folder, tmp_path / name)
    with pytest.raises(ModelError, match="absent.pem: the private key cannot be read"):
        models.add_signature(folder, tmp_path / "absent.pem")


def test_keys_and_signatures_of_openssl_count(folder, tmp_path, make_config):
    """Keys and signatures made by the openssl commands of docs/models.md are accepted."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem")
    openssl("pkey", "-in", "key.pem", "-pubout", "-out", "key.pub")
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", str(folder / MANIFEST), "-out", "raw")
    (folder / SIGNATURE).write_bytes(base64.b64encode((tmp_path / "raw").read_bytes()))
    config = make_config(
        f"signatures.public_keys=['${{file:{tmp_path}/key.pub}}']",
        f"models=[{{name: a, uri: {folder}, trust: signed}}]",
    )

    assert models.inspect(config, config.models[0])[1].manifest


def test_public_keys_are_checked_when_the_configuration_is_read(make_key, make_config):
    """Public keys are accepted in every form that openssl and this program print."""
    _, public = make_key()
    raw = base64.b64encode(public).decode()
    der = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + public).decode()
    config = make_config(f"signatures.public_keys=['{raw}', '{der}']")

    assert config.signatures.raw_keys == (public, public)
    for wrong in ("eA==", "*", raw[:-4]):
        with pytest.raises(ConfigError, match=r"signatures.public_keys.0: .*not an Ed25519 public key"):
            load("local", [f"signatures.public_keys=['{wrong}']"])
    with pytest.raises(ConfigError, match="'a' has trust: signed, but signatures.public_keys names no key"):
        load("local", ["models=[{name: a, uri: /a, trust: signed}]"])


def test_command_signs_and_checks(folder, make_key):
    """The command signs and checks, with exit code 4 for a refused model."""
    file, public = make_key()
    options = ["--set", f"signatures.public_keys=['{base64.b64encode(public).decode()}']"]
    check = ["models", "check", str(folder), "--files-only", "--signed", *options]
    run = CliRunner().invoke

    with pytest.raises(ModelError, match="there is no signature"):
        run(app, check, catch_exceptions=False)
    signed = run(app, ["models", "sign", str(folder), "--key", str(file)], catch_exceptions=False)
    checked = run(app, check, catch_exceptions=False)

    assert signed.output.strip().endswith(SIGNATURE)
    assert "of one of the public keys" in checked.output
    with pytest.raises(ConfigError, match="names no key"):
        run(app, check[:-2], catch_exceptions=False)
