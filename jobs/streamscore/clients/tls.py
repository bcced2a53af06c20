"""Find out why a TLS connection fails: the servers' own clients name neither the reason nor our settings."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

PROBE_SECONDS: Final = 3.0
"""Seconds that a server may take for each step of a handshake."""


class Fault(Enum):
    """A reason of a failed handshake that a setting or a certificate can fix."""

    AUTHORITY = "the certificate is signed by an authority that is not trusted"
    EXPIRED = "the certificate has expired or is not valid yet"
    HOST_NAME = "the certificate is for other host names"
    NO_TLS = "the server does not speak TLS"
    CLIENT_MISSING = "the server wants a certificate of the client"
    CLIENT_REFUSED = "the server refuses the certificate of the client"


_EXPIRED: Final = frozenset({9, 10})
_HOST_NAME: Final = frozenset({62, 64})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 24})
"""Codes of X509_V_ERR in OpenSSL's ``x509_vfy.h``: the certificate's validity, its names, its signer."""

_ANOTHER_PROTOCOL: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_ABOUT_CLIENT: Final = re.compile("ALERT.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")
"""OpenSSL's reasons: bytes that are not TLS, and alerts about the client's certificate."""


@dataclass(frozen=True)
class Trust:
    """The authorities that a client trusts, and the client's own certificate."""

    ca_file: Path | None = None
    """PEM file of the authorities; without it and ``ca_text``, those of the system."""
    ca_text: str | None = None
    """The authorities themselves, PEM."""
    checks_host: bool = True
    certificate: Path | None = None
    """PEM file with the client's certificate and key, if the client has one."""
    key_password: str | None = None


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a server answers a TLS handshake; False if the server does not answer at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(host, port) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        # An alert is a TLS answer; bytes of another protocol, or no bytes, are not.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def fault(host: str, port: int, trust: Trust) -> Fault | None:
    """Try a handshake and return why it fails; None if it succeeds, or fails for a reason that no setting fixes.

    Args:
        host: the host name or address that the certificate must be for.
        port: the port.
        trust: the authorities and the client's certificate.
    """
    try:
        with _connected(host, port) as plain, _context(trust).wrap_socket(plain, server_hostname=host) as secure:
            return _refusal(secure, trust)
    except ssl.SSLCertVerificationError as error:
        return _of_verification(error)
    except ssl.SSLError as error:
        return Fault.NO_TLS if error.reason in _ANOTHER_PROTOCOL else _of_alert(error, trust)
    except OSError:
        return None


def _connected(host: str, port: int) -> socket.socket:
    return socket.create_connection((host.strip("[]"), port), timeout=PROBE_SECONDS)


def _context(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trust.ca_file, cadata=trust.ca_text)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the servers' own clients are not that strict
    context.check_hostname = trust.checks_host
    if trust.certificate is not None:
        context.load_cert_chain(trust.certificate, password=trust.key_password or "")
    return context


def _refusal(secure: ssl.SSLSocket, trust: Trust) -> Fault | None:
    """Return the server's refusal of the client's certificate; with TLS 1.3 it arrives after the handshake."""
    secure.settimeout(0.5)
    try:
        secure.recv(1)
    except ssl.SSLError as error:
        return _of_alert(error, trust)
    except OSError:  # no refusal: the server waits for a request
        pass
    return None


def _of_alert(error: ssl.SSLError, trust: Trust) -> Fault | None:
    if not _ABOUT_CLIENT.search(error.reason or ""):
        return None
    return Fault.CLIENT_MISSING if trust.certificate is None else Fault.CLIENT_REFUSED


def _of_verification(error: ssl.SSLCertVerificationError) -> Fault | None:
    if error.verify_code in _EXPIRED:
        return Fault.EXPIRED
    if error.verify_code in _HOST_NAME:
        return Fault.HOST_NAME
    return Fault.AUTHORITY if error.verify_code in _UNKNOWN_AUTHORITY else None
