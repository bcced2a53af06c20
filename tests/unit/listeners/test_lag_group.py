"""When the offsets of the lag's group are set, and what is logged if they are not."""

from types import SimpleNamespace

import pytest

from streamscore.errors import RefusedError, ServerError
from streamscore.listeners import configured, lag_group
from streamscore.listeners.lag_group import LagGroup
from streamscore.listeners.totals import Totals


class Broker:
    """A group's offsets that answer when a test says so."""

    def __init__(self):
        self.requests = []
        self.answers = True
        self.fault = None
        self.is_waiting = False
        self.waits = []

    def commit(self, offsets):
        """Take a request."""
        assert not self.is_waiting
        self.is_waiting = True
        self.requests.append(dict(offsets))

    def take(self, seconds):
        """Give the outcome of the request, if there is one."""
        self.waits.append(seconds)
        if not self.is_waiting or not self.answers:
            return False
        self.is_waiting = False
        if self.fault is not None:
            raise self.fault
        return True


@pytest.fixture
def group(monkeypatch, make_config):
    """An opened listener, its broker, and a clock that a test sets forward."""
    found = SimpleNamespace(broker=Broker(), now=1000.0)
    monkeypatch.setattr(lag_group, "GroupOffsets", lambda *_: found.broker)
    monkeypatch.setattr(lag_group.time, "monotonic", lambda: found.now)
    found.listener = LagGroup(make_config().kafka, "streamscore-clicks")
    found.listener.open()

    def hear(end):
        found.listener.committed(SimpleNamespace(ends={("clicks", 0): end}))
        found.listener.refresh()

    found.hear = hear
    return found


def ends(group):
    """Return the offsets of all requests."""
    return [request["clicks", 0] for request in group.broker.requests]


def test_offsets_are_the_end_of_the_batch(group):
    """Each batch's end is set; without a batch nothing is."""
    group.listener.refresh()
    assert ends(group) == []
    group.hear(5)
    group.hear(9)
    group.listener.refresh()

    assert ends(group) == [5, 9]
    assert set(group.broker.waits) == {0.0}


def test_broker_that_does_not_answer_delays_nothing(group):
    """While a request is under way no other is sent, and then only the newest."""
    group.broker.answers = False
    for end in (5, 9, 12):
        group.hear(end)
    assert ends(group) == [5]
    group.broker.answers = True
    group.listener.refresh()

    assert ends(group) == [5, 12]


def test_offsets_are_set_again_every_hour(group):
    """The offsets of an idle stream are set again, for brokers forget them."""
    group.hear(5)
    for _ in range(7):
        group.now += 600
        group.listener.refresh()

    assert ends(group) == [5, 5]


@pytest.mark.parametrize(("fault", "seconds"), [(ServerError("away"), 10), (RefusedError("no ACL"), 3600)])
def test_failure_is_told_once_and_tried_again_later(group, caplog, fault, seconds):
    """The first of equal failures is logged; the retry waits, for long after a refusal."""
    group.broker.fault = fault
    group.hear(5)
    group.hear(9)
    group.now += seconds - 1
    group.hear(12)
    assert ends(group) == [5]
    group.now += 1
    group.hear(13)
    group.listener.refresh()
    assert ends(group) == [5, 13]
    assert group.listener.fault() is None
    assert len(caplog.records) == 1
    assert str(fault) in caplog.text


def test_end_of_the_job_sets_the_last_offsets(group):
    """What was not set yet is set at the end, with a wait that has an end."""
    group.broker.answers = False
    group.hear(5)
    group.hear(9)
    group.broker.answers = True
    group.listener.close()

    assert ends(group) == [5, 9]
    assert max(group.broker.waits) == lag_group.LAST_SECONDS


def test_end_of_the_job_does_not_repeat_what_was_refused(group):
    """After a refusal nothing is sent at the end."""
    group.broker.fault = RefusedError("no ACL")
    group.hear(5)
    group.listener.close()

    assert ends(group) == [5]


def test_there_is_no_group_by_default(make_config):
    """Without a name there is no listener."""
    config = make_config("elasticsearch.enabled=false")

    assert not any(isinstance(one, LagGroup) for one in configured(config, Totals([], synthetic=False), None))
