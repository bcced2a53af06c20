"""The sections of the servers that are connected to, and of Spark."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from streamscore.config.sections import SECRET_KEY, Section, check_server, is_loopback, split_address
from streamscore.config.types import AbsolutePath, IndexName, MemorySize, Positive, StateFolder, TableName, as_text

INDEX_KEYS = ("index", "rejected_index", "status_index", "quality_index")
"""Keys of the indices that a scoring job writes to."""

RUN_INFIX = "-run-"
"""What stands between the name of an index and that of a run in the name of the run's index."""

_PLAIN_OPTIONS = frozenset(
    {
        *("security.protocol", "sasl.mechanism", "client.id", "ssl.endpoint.identification.algorithm"),
        *("ssl.truststore.type", "ssl.truststore.location", "ssl.keystore.type", "ssl.keystore.location"),
    }
)

_TUNING = re.compile(r"[a-z.]+\.(ms|bytes|records|size)")


class Topics(Section):
    """Names of the topics: three of the scoring job, two of the job that joins late labels."""

    input: str
    predictions: str
    rejected: str
    labels: str
    labelled: str

    @model_validator(mode="after")
    def _distinct(self) -> Topics:
        names = [self.input, self.predictions, self.rejected]
        if len(set(names)) < len(names):
            raise ValueError(f"the three topics must differ, found {', '.join(names)}")
        return self


class Kafka(Section):
    """The brokers and the topics."""

    bootstrap_servers: str
    options: dict[str, Annotated[SecretStr, BeforeValidator(as_text)]]
    insecure: bool
    topics: Topics
    partitions: Positive
    replication_factor: Positive
    lag_group: Annotated[str, Field(min_length=1)] | None

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses_parse(cls, value: str) -> str:
        for address in value.split(","):
            split_address(address)
        return value

    @model_validator(mode="after")
    def _encrypted_off_loopback(self) -> Kafka:
        protocol = self.client_options().get("security.protocol", "PLAINTEXT").upper()  # the clients ignore case
        remote = [host for host, _ in self.addresses() if not is_loopback(host)]
        if remote and protocol.endswith("PLAINTEXT") and not self.insecure:
            raise ValueError(
                f"{remote[0]} would be reached without encryption (security.protocol {protocol}): set "
                "kafka.options.security.protocol to SSL or SASL_SSL, or kafka.insecure to true"
            )
        return self

    @property
    def lag_group_name(self) -> str | None:
        """Name of the consumer group whose offsets follow the scoring job; None if there is none."""
        return self.lag_group_of(self.topics.input)

    def lag_group_of(self, topic: str) -> str | None:
        """Return the name of the consumer group whose offsets follow the job that reads a topic; None if none does."""
        return None if self.lag_group is None else self.lag_group.replace("{topic}", topic)

    def addresses(self) -> list[tuple[str, int]]:
        """Return the brokers as (host, port)."""
        return [split_address(address) for address in self.bootstrap_servers.split(",")]

    def client_options(self) -> dict[str, str]:
        """Return the client's options, secrets included: for a client, never for a log."""
        return {name: value.get_secret_value() for name, value in self.options.items()}

    def options_without_secrets(self) -> dict[str, str]:
        """Return the client's options that are known not to be secrets."""
        return {
            name: value
            for name, value in self.client_options().items()
            if name in _PLAIN_OPTIONS
            or (_TUNING.fullmatch(name) and not SECRET_KEY.search(name) and re.fullmatch("[0-9]+", value))
        }


class Elasticsearch(Section):
    """The Elasticsearch sink."""

    enabled: bool
    url: str
    index: IndexName
    rejected_index: IndexName
    status_index: IndexName
    quality_index: IndexName
    labelled_index: IndexName
    pending_index: IndexName
    labels_status_index: IndexName
    documents: Annotated[float, Field(ge=0, le=1)]
    refresh_interval: str
    user: str | None
    password: SecretStr | None
    api_key: SecretStr | None
    ca_file: AbsolutePath | None
    insecure: bool
    wan_only: bool
    retry_seconds: Annotated[float, Field(ge=0)]
    bulk_documents: Positive

    @model_validator(mode="after")
    def _complete(self) -> Elasticsearch:
        names = self.indices
        if len(set(names)) < len(names):
            raise ValueError(f"the four indices must differ, found {', '.join(names)}")
        check_server(self, "elasticsearch")
        if urlsplit(self.url).port is None:
            raise ValueError("url has no port: that of Elasticsearch is 9200, that of a gateway usually 443")
        return self

    @property
    def indices(self) -> tuple[str, ...]:
        """Names of all indices that the scoring job writes to."""
        return tuple(getattr(self, key) for key in INDEX_KEYS)

    def of_run(self, name: str) -> Elasticsearch:
        """Return these settings with the indices of a replay in the place of the stream's."""
        return self.model_copy(update={key: f"{getattr(self, key)}{RUN_INFIX}{name}" for key in INDEX_KEYS})

    @property
    def host(self) -> str:
        """Host name or address of the server."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the server."""
        return urlsplit(self.url).port or 9200

    @property
    def path(self) -> str:
        """Path of the server's URL behind a gateway; empty without a gateway."""
        return urlsplit(self.url).path.rstrip("/")


class Delta(Section):
    """The Delta table of the outcomes."""

    table: TableName | None

    @property
    def is_folder(self) -> bool:
        """Whether the table is a folder, and not a name in a catalog."""
        return self.table is not None and "/" in self.table


class RegisteredNames(Section):
    """Names of the trained models in the registry."""

    lr: str
    svm: str

    @property
    def candidate(self) -> str:
        """The candidate's name."""
        return f"{self.lr}-candidate"


class Mlflow(Section):
    """The tracking server and the model registry."""

    tracking_uri: str | None
    experiment: str
    registered_names: RegisteredNames
    alias: str


class Spark(Section):
    """Settings of the Spark session."""

    master: str | None
    driver_memory: MemorySize
    shuffle_partitions: Positive
    conf: dict[str, Annotated[str, BeforeValidator(as_text)]]

    @property
    def driver_bytes(self) -> int:
        """The driver's memory in bytes."""
        return int(self.driver_memory[:-1]) << {"m": 20, "g": 30}[self.driver_memory[-1]]

    @field_validator("conf")
    @classmethod
    def _no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if SECRET_KEY.search(name):
                raise ValueError(
                    f"{name} would show in the process list: no secret can be a Spark setting. Hadoop takes it "
                    "from core-site.xml, from a credential provider, or from the cloud's environment variables"
                )
        return value


class Local(Section):
    """The servers of ``streamscore up``."""

    artifacts_dir: StateFolder
    kafka_heap: MemorySize
    elasticsearch_heap: MemorySize
    start_seconds: Annotated[float, Field(gt=0)]
