"""A failed TLS connection is reported with its reason and the setting to fix; all servers are real."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streamscore.clients import elasticsearch, kafka
from streamscore.errors import ConfigError, RefusedError, ServerError

PLAIN = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    """A function that signs a certificate and returns it with its key in PEM, and the authority's own PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])

    def sign(subject, public, *, days, extension):
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder(name, subject, public, x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(extension, critical=False)
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    def certificate(address="127.0.0.1", days=1):
        own = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        return own.private_bytes(*PLAIN) + sign(subject, own.public_key(), days=days, extension=names)

    own = sign(name, key.public_key(), days=9, extension=x509.BasicConstraints(ca=True, path_length=None))
    return SimpleNamespace(certificate=certificate, pem=own)


@pytest.fixture
def serve(authority, tmp_path):
    """Return a function that starts a TLS server with a certificate and returns its port."""
    listening = []

    def start(*, wants_client=False, **of_certificate):
        file = tmp_path / "server.pem"
        file.write_bytes(authority.certificate(**of_certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=authority.pem.decode())
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)
        threading.Thread(target=answer, args=(server, context), daemon=True).start()
        return server.getsockname()[1]

    def answer(server, context):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)
            except OSError:
                connection.close()

    yield start
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.fixture
def over_tls(make_config, authority, tmp_path):
    """Return a function that makes a Kafka configuration of a port, with TLS and our authority."""
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.pem)

    def make(port, *overrides, ca=file):
        options = {"security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": ca}
        settings = [f"kafka.options.{name}={value}" for name, value in options.items()]
        return make_config(f"kafka.bootstrap_servers=127.0.0.1:{port}", *settings, *overrides).kafka

    return make


@pytest.fixture
def plaintext():
    """Return a function that starts a server without TLS and returns its port; it answers each connection."""
    servers = []

    def start(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def refusal(settings):
    """Return the message of the refusal of a configuration's brokers."""
    with pytest.raises(RefusedError) as caught:
        kafka.names(settings, timeout=2)
    return str(caught.value).partition(" ")[2].partition(" ")[2].partition(" ")[2]


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"days": -1}, "has a certificate that has expired or is not valid yet: renew it"),
        (
            {"address": "127.0.0.2"},
            "has a certificate for other host names: write one of its names in kafka.bootstrap_",
        ),
        ({"wants_client": True}, "wants a certificate of the client: name its PEM file in kafka.options.ssl.keystore."),
    ],
)
def test_fault_of_a_broker_s_certificate_is_told(serve, over_tls, server, message):
    """Each fault of a broker's certificate has a message of its own; Kafka's C client has one for all."""
    assert refusal(over_tls(serve(**server))).startswith(message)


def test_unknown_authority_is_told(serve, over_tls, tmp_path, authority):
    """The message has the setting that names an authority."""
    other = tmp_path / "other.pem"
    other.write_bytes(authority.certificate().partition(b"-----END PRIVATE KEY-----\n")[2])

    message = refusal(over_tls(serve(), ca=other))

    assert message.startswith("has a certificate of an authority that is not trusted")
    assert "kafka.options.ssl.truststore.location" in message


def test_plaintext_to_a_port_for_tls_is_told(serve, make_config):
    """A plaintext connection that the broker closes is reported as a wrong protocol."""
    config = make_config(f"kafka.bootstrap_servers=127.0.0.1:{serve()}")

    assert refusal(config.kafka) == "speaks TLS: set kafka.options.security.protocol to SSL or SASL_SSL"


def test_tls_to_a_port_for_plaintext_is_told(plaintext, over_tls):
    """A TLS connection to a plaintext broker is reported as a wrong protocol."""

    def refuse(connection):
        request = connection.recv(1_000)
        if request[:2] == b"\0\0":
            connection.sendall(b"\0\0\0\x0a" + request[8:12] + bytes(6))

    message = refusal(over_tls(plaintext(refuse)))

    assert message.startswith("does not speak TLS: set kafka.options.security.protocol to PLAINTEXT or SASL_PLAINTEXT")


def test_broker_that_is_not_there_is_told_as_before(over_tls, make_config):
    """An absent broker is reported as unreachable, not as a TLS fault."""
    for settings in (over_tls(9), make_config("kafka.bootstrap_servers=127.0.0.1:9").kafka):
        with pytest.raises(ServerError, match="no Kafka broker answers at .*: is it running") as caught:
            kafka.names(settings, timeout=2)
        assert type(caught.value) is ServerError


@pytest.mark.parametrize("content", [None, "no PEM"])
def test_missing_or_empty_file_is_named(over_tls, tmp_path, content):
    """The message has the file and its setting."""
    file = tmp_path / "named.pem"
    if content is not None:
        file.write_text(content)
    wrong = "cannot be read" if content is None else "has no certificate"

    with pytest.raises(ConfigError, match=f"kafka.options.ssl.truststore.location: {file} {wrong}"):
        kafka.names(over_tls(9, ca=file))


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"days": -1}, "the certificate has expired or is not valid yet: renew it"),
        ({"address": "127.0.0.2"}, "the certificate is for other host names: write one of them in elasticsearch.url"),
    ],
)
def test_fault_of_elasticsearch_s_certificate_is_told(serve, make_config, authority, tmp_path, server, message):
    """The message names the setting of our configuration."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    config = make_config(
        f"elasticsearch.url=https://127.0.0.1:{serve(**server)}", f"elasticsearch.ca_file={tmp_path}/ca.pem"
    )

    with pytest.raises(ServerError, match=message):
        elasticsearch.health(config.elasticsearch)


def test_http_to_a_port_of_https_is_told(serve, make_config):
    """An HTTP request to an HTTPS port is reported as a wrong protocol."""
    config = make_config(f"elasticsearch.url=http://127.0.0.1:{serve()}")

    with pytest.raises(RefusedError, match=r"speaks TLS: write https:// in elasticsearch.url"):
        elasticsearch.health(config.elasticsearch)


def test_https_to_a_port_of_http_is_told(plaintext, make_config):
    """An HTTPS request to an HTTP port is reported as a wrong protocol."""

    def refuse(connection):
        connection.recv(1_000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    config = make_config(f"elasticsearch.url=https://127.0.0.1:{plaintext(refuse)}")

    with pytest.raises(ServerError, match=r"the server does not speak TLS: write http:// in elasticsearch.url"):
        elasticsearch.health(config.elasticsearch)
