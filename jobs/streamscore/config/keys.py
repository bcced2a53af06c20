"""The whole configuration; ``conf/base.yml`` explains each key."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from streamscore.config.jobs import Labels, Replay, Seed, Stream, Train
from streamscore.config.models import Compare, Message, Model, Quality, Signatures
from streamscore.config.sections import Section
from streamscore.config.servers import Delta, Elasticsearch, Kafka, Local, Mlflow, Spark
from streamscore.config.types import StateFolder
from streamscore.config.watching import Dashboard, Kibana, Metrics


class Config(Section):
    """The whole configuration; ``conf/base.yml`` explains each key."""

    state_dir: StateFolder
    kafka: Kafka
    message: Message
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    signatures: Signatures
    elasticsearch: Elasticsearch
    quality: Quality
    labels: Labels
    compare: Compare
    delta: Delta
    kibana: Kibana
    stream: Stream
    metrics: Metrics
    replay: Replay
    seed: Seed
    train: Train
    mlflow: Mlflow
    spark: Spark
    dashboard: Dashboard
    local: Local

    @field_validator("models")
    @classmethod
    def _names_unique(cls, value: tuple[Model, ...]) -> tuple[Model, ...]:
        names = [model.name for model in value]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"the name {duplicates[0]!r} is used more than once")
        return value

    @model_validator(mode="after")
    def _candidates_differ(self) -> Config:
        names = [model.name for model in (*self.models, *self.replay.models)]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate is not None:
            raise ValueError(
                f"replay.models: the name {duplicate!r} is used more than once; a replay scores with the configured "
                "models too, so give the candidate (--model name=uri) another name"
            )
        return self

    @model_validator(mode="after")
    def _champion_known(self) -> Config:
        names, champion = [model.name for model in self.models], self.compare.champion
        if champion is not None and champion not in names:
            raise ValueError(f"compare.champion: no model {champion!r} is configured; there are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _signers_known(self) -> Config:
        signed = [model.name for model in (*self.models, *self.replay.models) if model.trust == "signed"]
        if signed and not self.signatures.public_keys:
            raise ValueError(f"the model {signed[0]!r} has trust: signed, but signatures.public_keys names no key")
        return self
