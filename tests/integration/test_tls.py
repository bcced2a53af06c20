"""Elasticsearch behind a gateway with TLS, a private certificate authority, an API key and a path."""

import datetime as dt
import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import oracle
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streamscore import score_stream
from streamscore.clients import elasticsearch, kafka
from streamscore.errors import ConfigError, ServerError
from streamscore.sinks.elasticsearch import write_index
from streamscore.spark import jvm

KEY = "a2V5OnNlY3JldA=="


def authority(folder, name):
    """Write a certificate authority's certificate and a signed certificate for 127.0.0.1, and return both."""
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("ca", "server")}
    names = {who: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} {who}")]) for who in keys}
    now = dt.datetime.now(dt.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for who, extension in (("ca", x509.BasicConstraints(ca=True, path_length=None)), ("server", address)):
        certificate = (
            x509.CertificateBuilder(names["ca"], names[who], keys[who].public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(extension, critical=who == "ca")
            .sign(keys["ca"], hashes.SHA256())
        )
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        text = certificate.public_bytes(serialization.Encoding.PEM)
        private = b"" if who == "ca" else keys[who].private_bytes(serialization.Encoding.PEM, *plain)
        (folder / f"{name}-{who}.pem").write_bytes(private + text)
    return folder / f"{name}-ca.pem", folder / f"{name}-server.pem"


@pytest.fixture
def gateway(servers, tmp_path):
    """A gateway with TLS, an API key and a path in front of Elasticsearch, and the gateway's authority."""
    trusted, certificate = authority(tmp_path, "ours")

    class Gateway(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            """Forward an authorised request."""
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, kind, answer = 401, "application/json", b'{"error":{"type":"security_exception"},"status":401}'
            if self.headers.get("Authorization") == f"ApiKey {KEY}" and self.path.startswith("/es"):
                kept = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
                url = servers.elasticsearch.url + self.path.removeprefix("/es")
                done = requests.request(self.command, url, data=body, headers=kept, timeout=60)
                status, kind, answer = done.status_code, done.headers.get("Content-Type", ""), done.content
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else answer)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = forward  # noqa: N815 (http.server's names)

        def log_message(self, *_words) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}/es", trusted
    server.shutdown()


@pytest.fixture
def config(own, gateway, small_models, produce, monkeypatch):
    """A configuration that uses the gateway, with ten messages in its topic."""
    monkeypatch.setenv("ES_API_KEY", KEY)
    url, trusted = gateway
    config = own(
        "stream.available_now=true",
        "elasticsearch.retry_seconds=0",
        f"elasticsearch.url={url}",
        f"elasticsearch.ca_file={trusted}",
        "elasticsearch.api_key=${env:ES_API_KEY}",
        oracle.listed(small_models),
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(
        config.kafka, config.kafka.topics.input, ['{"features":{"type":0,"size":110,"indices":[],"values":[]}}'] * 10
    )
    return config


def with_elasticsearch(config, **changes):
    """Return a configuration with other settings of Elasticsearch."""
    return config.model_copy(update={"elasticsearch": config.elasticsearch.model_copy(update=changes)})


def test_documents_are_written_through_a_gateway_of_one_s_own_authority(spark, config):
    """The connector and the client both trust the configured authority."""
    score_stream.check(config)
    score_stream.run(spark, config)

    assert elasticsearch.count(config.elasticsearch) == 20


def test_server_of_another_authority_is_not_trusted(spark, config, tmp_path):
    """Neither the client nor the connector sends the API key to a server of another authority."""
    misled = with_elasticsearch(config, ca_file=authority(tmp_path, "other")[0])
    store = jvm.trust_store(spark, misled)
    document = spark.createDataFrame([("a", "a")], "document_id string, event_id string")
    score_stream.check(config)

    with pytest.raises(ServerError, match="authority that is not trusted: name .* elasticsearch.ca_file"):
        score_stream.check(misled)
    with pytest.raises(Exception, match="all nodes failed"):
        write_index(document, config.elasticsearch, config.elasticsearch.index, store)
    assert elasticsearch.count(config.elasticsearch) == 0


def test_file_without_certificates_is_named(spark, config, tmp_path):
    """The error comes before the first batch."""
    empty = tmp_path / "empty.pem"
    empty.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")

    with pytest.raises(ConfigError, match="elasticsearch.ca_file: .*empty.pem cannot be read as PEM certificates"):
        jvm.trust_store(spark, with_elasticsearch(config, ca_file=empty))
