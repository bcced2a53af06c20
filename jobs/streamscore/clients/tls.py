"""Tell why a TLS connection fails: the servers' own clients name neither the reason nor our settings."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

PROBE_SECONDS: Final = 3.0
"""How long a server may take for each step of a handshake."""


class Fault(Enum):
    """Why a handshake fails, as far as a setting or a certificate can mend it."""

    AUTHORITY = "the certificate is signed by an authority that is not trusted"
    EXPIRED = "the certificate has expired or is not valid yet"
    HOST_NAME = "the certificate is for other host names"
    NO_TLS = "the server does not speak TLS"
    CLIENT_MISSING = "the server wants a certificate of the client"
    CLIENT_REFUSED = "the server refuses the certificate of the client"


_EXPIRED: Final = frozenset({9, 10})
_HOST_NAME: Final = frozenset({62, 64})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 24})
"""Codes of X509_V_ERR in OpenSSL's ``x509_vfy.h``: of the certificate's time, of its names, of who signed it."""

_ANOTHER_PROTOCOL: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_ABOUT_CLIENT: Final = re.compile("ALERT.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")
"""Reasons of OpenSSL: bytes that are no TLS, and alerts that concern the client's certificate."""


@dataclass(frozen=True)
class Trust:
    """What a client checks a server's certificate against."""

    ca_file: Path | None = None
    """File of the authorities, PEM; without it and ``ca_text``, the system's."""
    ca_text: str | None = None
    """The authorities themselves, PEM."""
    checks_host: bool = True
    certificate: Path | None = None
    """File with the client's own certificate and its key, PEM, if it has one."""
    key_password: str | None = None


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a server answers a TLS handshake; false if it does not answer at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(host, port) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        # An alert is an answer in TLS; bytes of another protocol, or none, are not.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def fault(host: str, port: int, trust: Trust) -> Fault | None:
    """Make a handshake and return why it fails; None if it does not, or for a reason that no setting mends.

    Args:
        host: the host name or address that the certificate must be for.
        port: the port.
        trust: what the client checks.
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
    """Return what a server says of the client's certificate; with TLS 1.3 it does so after the handshake."""
    secure.settimeout(0.5)
    try:
        secure.recv(1)
    except ssl.SSLError as error:
        return _of_alert(error, trust)
    except OSError:  # it waits for a request
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
