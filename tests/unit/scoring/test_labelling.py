"""Which outcome gets which label, and what becomes of each label."""

from streamscore.messages.labels import Label
from streamscore.scoring.labelling import Candidate, Outcome, Prior, resolve


def outcome(event, model="lr", **fields):
    """An outcome's document."""
    return Outcome(f"{event}-{model}", {"event_id": event, "model": model, "prediction": 1.0, **fields})


def label(value, time, offset, identity="a"):
    """A label of partition 0."""
    return Label(identity, float(value), time, 0, offset)


def decide(candidates, outcomes=None, priors=None, conflict="last", expired=False, settled=False, models=("lr",)):
    """Resolve candidates of one batch."""
    made = [each if isinstance(each, Candidate) else Candidate(each) for each in candidates]
    return resolve(made, outcomes or {}, priors or {}, models, conflict, lambda _: expired, lambda _: settled)


def chosen(made):
    """The value of the label that each outcome gets."""
    return {document: each.label.value for document, each in made.labelled.items()}


def nonzero(made):
    """The counts that changed."""
    return {name: count for name, count in made.counts.items() if count}


def test_last_label_by_time_then_offset_counts():
    """The order of arrival does not matter; of equal times the later offset counts."""
    rivals = [label(1, 5, 0), label(0, 9, 1), label(1, 7, 2), label(0, 7, 3)]
    made = decide(rivals, {"a": [outcome("e")]})

    assert chosen(made) == {"e-lr": 0.0}
    assert nonzero(made) == {"matched": 1, "superseded": 3}
    assert chosen(decide(rivals, {"a": [outcome("e")]}, conflict="first")) == {"e-lr": 1.0}
    assert chosen(decide([label(1, 5, 3), label(0, 5, 2)], {"a": [outcome("e")]})) == {"e-lr": 1.0}


def test_same_label_twice_is_a_duplicate():
    """In one batch, and after the batch that wrote it."""
    made = decide([label(1, 5, 0), label(1, 5, 1)], {"a": [outcome("e")]})
    again = decide([label(1, 5, 9)], {"a": [outcome("e")]}, {"e-lr": Prior(1.0, 5, 0, 0)})

    assert nonzero(made) == {"matched": 1, "duplicate": 1}
    assert nonzero(again) == {"duplicate": 1}
    assert again.labelled == {}


def test_later_label_corrects_and_earlier_one_is_superseded():
    """What the statistics count so far is the label before, or the event's own."""
    there = {"a": [outcome("e", label=0.0)]}
    prior = {"e-lr": Prior(0.0, 5, 0, 0)}
    correction = decide([label(1, 6, 1)], there, prior)

    assert correction.labelled["e-lr"].value_before == 0.0
    assert nonzero(correction) == {"matched": 1}
    assert nonzero(decide([label(1, 4, 1)], there, prior)) == {"superseded": 1}
    assert decide([label(1, 6, 1)], there).labelled["e-lr"].value_before == 0.0
    assert decide([label(1, 6, 1)], {"a": [outcome("e")]}).labelled["e-lr"].value_before is None


def test_label_without_an_outcome_waits_and_expires():
    """It counts as pending once, and leaves it when it is matched or expires."""
    waits = label(1, 5, 0)
    first, again = decide([waits]), decide([Candidate(waits, "pending")])
    found = decide([Candidate(waits, "pending")], {"a": [outcome("e")]})
    late = decide([Candidate(waits, "pending")], expired=True)

    assert [each.label for each in first.waiting] == [each.label for each in again.waiting] == [waits]
    assert (nonzero(first), nonzero(again)) == ({"pending": 1}, {})
    assert nonzero(found) == {"matched": 1, "pending": -1}
    assert nonzero(late) == {"expired": 1, "pending": -1}
    assert nonzero(decide([waits], expired=True)) == {"pending": 1}


def test_label_of_several_events_goes_to_all_of_them():
    """It is counted as ambiguous, once."""
    made = decide([label(1, 5, 0)], {"a": [outcome("e"), outcome("f")]})

    assert chosen(made) == {"e-lr": 1.0, "f-lr": 1.0}
    assert nonzero(made) == {"matched": 1, "ambiguous": 1}


def test_label_looks_for_the_outcomes_of_further_models():
    """A search may see one model's outcome and not yet the other's; the label counts as matched once."""
    both = ("lr", "svm")
    seen = decide([label(1, 5, 0)], {"a": [outcome("e")]}, models=both)
    whole = decide(
        [Candidate(label(1, 5, 0), "matched")],
        {"a": [outcome("e"), outcome("e", "svm")]},
        {"e-lr": Prior(1.0, 5, 0, 0)},
        models=both,
    )
    left = decide([Candidate(label(1, 5, 0), "matched")], {"a": [outcome("e")]}, models=both, settled=True)

    assert (nonzero(seen), len(seen.incomplete)) == ({"matched": 1}, 1)
    assert (nonzero(whole), chosen(whole), len(whole.done)) == ({}, {"e-svm": 1.0}, 1)
    assert (nonzero(left), left.incomplete) == ({}, [])


def test_outcome_that_has_the_label_already_is_named_beside_the_others():
    """The paired statistics need both models' outcomes, whichever got the label first."""
    there = {"a": [outcome("e", "lr"), outcome("e", "svm")]}
    made = decide([Candidate(label(1, 5, 0), "matched")], there, {"e-lr": Prior(1.0, 5, 0, 0)}, models=("lr", "svm"))

    assert chosen(made) == {"e-svm": 1.0}
    assert {document: value for document, (_, value) in made.unchanged.items()} == {"e-lr": 1.0}
    assert decide([label(1, 5, 9)], {"a": [outcome("e")]}, {"e-lr": Prior(1.0, 5, 0, 0)}).unchanged == {}
