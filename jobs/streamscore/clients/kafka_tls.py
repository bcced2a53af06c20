"""Why a connection to a broker fails in its TLS handshake, in the words of the settings."""

from __future__ import annotations

import socket
import struct
from typing import Final

from streamscore.clients import tls
from streamscore.clients.kafka_settings import trust
from streamscore.config import Kafka
from streamscore.errors import RefusedError

_OF_TLS: Final = {
    tls.Fault.AUTHORITY: (
        "has a certificate of an authority that is not trusted: name the authority's PEM file in "
        "kafka.options.ssl.truststore.location, with ssl.truststore.type: PEM"
    ),
    tls.Fault.EXPIRED: "has a certificate that has expired or is not valid yet: renew it, or set this machine's clock",
    tls.Fault.HOST_NAME: (
        "has a certificate for other host names: write one of its names in kafka.bootstrap_servers, or give the broker "
        "a certificate for this one"
    ),
    tls.Fault.NO_TLS: (
        "does not speak TLS: set kafka.options.security.protocol to PLAINTEXT or SASL_PLAINTEXT, or name the port for "
        "TLS in kafka.bootstrap_servers"
    ),
    tls.Fault.CLIENT_MISSING: (
        "wants a certificate of the client: name its PEM file in kafka.options.ssl.keystore.location, with "
        "ssl.keystore.type: PEM"
    ),
    tls.Fault.CLIENT_REFUSED: "refuses the certificate of the client: see kafka.options.ssl.keystore.location",
}


def require_same_protocol(kafka: Kafka) -> None:
    """Find out why a TLS handshake with a broker failed, which librdkafka does not report.

    Raises:
        RefusedError: a broker's protocol or certificate differs from the configuration's.
    """
    is_tls = kafka.client_options().get("security.protocol", "PLAINTEXT").upper().endswith("SSL")
    for host, port in kafka.addresses():
        fault_text = None
        if not is_tls:
            if tls.speaks_tls(host, port):
                fault_text = "speaks TLS: set kafka.options.security.protocol to SSL or SASL_SSL"
        elif _speaks_plaintext(host, port):
            fault_text = _OF_TLS[tls.Fault.NO_TLS]
        else:
            fault = tls.fault(host, port, trust(kafka))
            fault_text = None if fault is None else _OF_TLS[fault]
        if fault_text is not None:
            raise RefusedError(f"Kafka at {host}:{port} {fault_text}")


def _speaks_plaintext(host: str, port: int) -> bool:
    """Return whether a broker answers a request without TLS; such a broker only closes a TLS connection."""
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # ApiVersions, version 0, of a client without a name
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=tls.PROBE_SECONDS) as connection:
            connection.sendall(request)
            answer = connection.recv(8)
    except OSError:
        return False
    return answer[4:] == request[8:12]  # the number of the request, behind the length
