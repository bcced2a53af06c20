"""The sections of what people and machines watch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from streamscore.config.sections import Section, check_server, is_loopback
from streamscore.config.types import AbsolutePath, Positive, TimeRange


class Alert(Section):
    """When Kibana's alert rule reports a model as worse than the baseline."""

    window_minutes: Positive
    min_labelled: Positive
    margin: Annotated[float, Field(ge=0, lt=1)]


class Kibana(Section):
    """The Kibana into which the dashboard is imported."""

    url: str
    space: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    user: str | None
    password: SecretStr | None
    api_key: SecretStr | None
    ca_file: AbsolutePath | None
    insecure: bool
    alert: Alert

    @model_validator(mode="after")
    def _complete(self) -> Kibana:
        check_server(self, "kibana")
        return self


class Dashboard(Section):
    """The live page."""

    title: str
    address: str
    hosts: tuple[str, ...]
    port: Annotated[int, Field(ge=1, le=65535)]
    refresh_seconds: Annotated[float, Field(ge=0.5)]
    time_range: TimeRange
    min_labelled: Positive
    timeout_seconds: Annotated[float, Field(gt=0)]


class Metrics(Section):
    """The endpoints with the metrics and the health of score_stream and label_stream."""

    port: Annotated[int, Field(ge=1, le=65535)] | None
    labels_port: Annotated[int, Field(ge=1, le=65535)] | None
    address: str
    insecure: bool

    @model_validator(mode="after")
    def _on_loopback_unless_asked_for(self) -> Metrics:
        port = self.labels_port if self.port is None else self.port
        if port is not None and not is_loopback(self.address) and not self.insecure:
            raise ValueError(
                f"other machines could read {self.address}:{port} without a password and without encryption: set "
                "metrics.address to a loopback address, or metrics.insecure to true"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Metrics:
        if self.port is not None and self.port == self.labels_port:
            raise ValueError(f"port and labels_port are both {self.port}: each job listens on a port of its own")
        return self
