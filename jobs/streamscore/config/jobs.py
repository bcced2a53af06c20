"""The sections of the jobs that score, label, replay, seed and train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamscore.config.models import Model
from streamscore.config.sections import Section
from streamscore.config.types import LocalFolder, Location, Moment, Positive, RunName, iso_time


class Stream(Section):
    """Settings of score_stream."""

    checkpoint: Location
    new_checkpoint: bool
    model_poll_seconds: Annotated[float, Field(gt=0)]
    max_rejected_share: Annotated[float, Field(gt=0, le=1)] | None
    rejected_window: Positive
    max_restarts: Annotated[int, Field(ge=0)]
    synthetic: bool
    trigger_seconds: Annotated[float, Field(ge=0)]
    available_now: bool
    max_events_per_batch: Positive
    starting_offsets: Literal["earliest", "latest"]
    report_seconds: Annotated[float, Field(gt=0)]
    drain_seconds: Annotated[float, Field(gt=0)]
    skip: tuple[Annotated[str, Field(pattern=r"^[0-9]{1,10}:[0-9]{1,19}$")], ...]


class Labels(Section):
    """Settings of label_stream."""

    checkpoint: Location
    match: Literal["key", "event_id"]
    id_field: Annotated[str, Field(min_length=1)]
    label_field: Annotated[str, Field(min_length=1)]
    time_field: Annotated[str, Field(min_length=1)]
    conflict: Literal["last", "first"]
    horizon: Annotated[float, Field(gt=0)]
    retry_seconds: Annotated[float, Field(gt=0)]
    window: Annotated[float, Field(gt=0)] | None
    min_coverage: Annotated[float, Field(ge=0, le=1)]
    absent_means: Annotated[float, Field(ge=0, le=0)] | None

    @model_validator(mode="after")
    def _absent_needs_window(self) -> Labels:
        if self.absent_means is not None and self.window is None:
            raise ValueError("absent_means needs window: the seconds after which a label that has not come is absent")
        return self

    @model_validator(mode="after")
    def _fields_differ(self) -> Labels:
        names = [self.id_field, self.label_field, self.time_field]
        if len(set(names)) < len(names):
            raise ValueError(f"id_field, label_field and time_field must differ, found {', '.join(names)}")
        return self


def _candidate(value: object) -> object:
    """Return the entry of a model that is written as ``name=uri``."""
    if not isinstance(value, str):
        return value
    name, separator, uri = value.partition("=")
    if not (separator and name and uri):
        raise ValueError(f"{value!r} is not name=uri, for instance lr2=models:/streamscore-lr/7")
    return {"name": name, "uri": uri}


class Replay(Section):
    """Settings of replay_topic."""

    name: RunName | None
    begin: Moment | None
    end: Moment | None
    models: tuple[Annotated[Model, BeforeValidator(_candidate)], ...]
    documents: bool

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Replay:
        if self.begin is not None and self.end is not None and self.begin >= self.end:
            raise ValueError(
                f"the begin (--from), {iso_time(self.begin)}, is not before the end (--to), {iso_time(self.end)}"
            )
        return self


class Seed(Section):
    """Settings of seed_topic."""

    source: str
    label_column: str | None
    features_column: str
    rate: Annotated[float, Field(gt=0)] | None
    limit: Positive | None
    repeat: Positive
    resume: bool
    label_delay: Annotated[float, Field(gt=0)] | None
    label_share: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _late_labels_need_a_rate(self) -> Seed:
        if self.label_delay is not None and self.rate is None:
            raise ValueError("label_delay needs rate (--rate): a label comes some seconds after its event")
        return self


class Classifier(Section):
    """Settings of one linear classifier."""

    reg_param: Annotated[float, Field(ge=0)]
    max_iter: Positive


class Svm(Classifier):
    """Settings of the linear SVM."""

    calibrate: bool


class Train(Section):
    """Settings of train_models."""

    data: Literal["synthetic", "criteo"]
    path: str | None
    order_column: str | None
    rows: Positive
    seed: Annotated[int, Field(ge=0)]
    bayes_auc: Annotated[float, Field(ge=0.55, le=0.95)]
    test_rows: Positive
    balance: bool
    raw_models: bool
    hash_size: Positive
    min_category_count: Positive
    lr: Classifier
    svm: Svm
    candidate: Classifier | None
    output: LocalFolder

    @field_validator("hash_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"{value} is not a power of two")
        return value

    @model_validator(mode="after")
    def _data_and_path_agree(self) -> Train:
        if self.data == "criteo" and self.path is None:
            raise ValueError("data: criteo needs path, the file that you downloaded")
        if self.data == "synthetic" and self.path is not None:
            raise ValueError("path goes with data: criteo only")
        if self.data == "synthetic" and self.test_rows >= self.rows:
            raise ValueError(f"test_rows ({self.test_rows}) must be fewer than rows ({self.rows})")
        return self
