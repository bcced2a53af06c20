"""``streamscore rejected``: list and show the messages that could not be scored, and send them again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from streamscore import config as configuration
from streamscore.cli.options import ConfigOption, SetOption
from streamscore.errors import ConfigError
from streamscore.schema import LABEL_REASONS, REASONS
from streamscore.system.console import print_line, printable

app = typer.Typer(name="rejected", help="The messages that could not be scored.", no_args_is_help=True)


@app.command(name="list")
def rejected_list(
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    reason: Annotated[str | None, typer.Option(help="only messages rejected for this reason")] = None,
    limit: Annotated[int, typer.Option(help="number of messages to list, the newest", min=1)] = 20,
) -> None:
    """List rejected messages: how many for each reason, and the newest ones."""
    from streamscore.clients import rejected as topic

    _require_known(reason)
    unreadable: list[str] = []
    messages = [
        message
        for message in topic.read(configuration.load(config, overrides).kafka, unreadable.append)
        if reason in {None, message.reason}
    ]
    for name, count in sorted(Counter(message.reason for message in messages).items()):
        print_line(f"{count:>8,} {name}")
    for message in sorted(messages, key=lambda message: message.timestamp)[-limit:]:
        print_line(f"{message.event_id}  {message.reason}: {message.detail}")
    if unreadable:
        print_line(
            f"not listed: {len(unreadable)} whose headers this client does not read, the last at {unreadable[-1]}: it "
            f"takes {topic.MAX_HEADERS:,} headers at most. Kafka's own console consumer reads them"
        )


@app.command(name="show")
def rejected_show(
    event_id: Annotated[str, typer.Argument(help="an id that `list` shows")],
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
) -> None:
    """Show one rejected message in full; its texts are shown as Python shows bytes."""
    from streamscore.clients import rejected as topic

    (message,) = topic.select(configuration.load(config, overrides).kafka, [event_id])
    headers = (("header", f"{name} = {value!r}") for name, value in message.own_headers())
    for part, text in (
        ("reason", f"{message.reason}: {message.detail}"),
        ("key", repr(message.key)),
        *headers,
        ("value", repr(message.value)),
    ):
        typer.echo(f"{part:<8} {printable(text, limit=None)}")


@app.command(name="replay")
def rejected_replay(
    event_ids: Annotated[list[str] | None, typer.Argument(help="ids that `list` shows")] = None,
    *,
    config: ConfigOption = "local",
    overrides: SetOption,
    reason: Annotated[str | None, typer.Option(help="all messages rejected for this reason")] = None,
    value: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="file with a repaired value, for exactly one id"),
    ] = None,
) -> None:
    """Send rejected messages to the topic that they came from again, unchanged or repaired, each at most once."""
    from streamscore.clients import rejected as topic

    ids = event_ids or []
    if bool(ids) == bool(reason) or (value is not None and len(ids) != 1):
        raise ConfigError("give ids or --reason, not both; --value goes with exactly one id")
    _require_known(reason)
    kafka = configuration.load(config, overrides).kafka
    messages = topic.select(kafka, ids, reason)
    if reason is not None:
        available = [each for own, group in topic.by_topic(kafka, messages) for each in topic.available(own, group)]
        if len(available) < len(messages):
            print_line(
                f"{len(messages) - len(available)} were too large to be kept and have expired from the input topic"
            )
        messages = available
    repaired = None if value is None else value.read_bytes()
    sent = sum(topic.replay(own, group, repaired) for own, group in topic.by_topic(kafka, messages))
    others = "; the others were sent before" if sent < len(messages) else ""
    print_line(f"sent {sent} of {len(messages)}{others}")


def _require_known(reason: str | None) -> None:
    """Raise an error for an unknown reason."""
    known = (*REASONS, *LABEL_REASONS)
    if reason is not None and reason not in known:
        raise ConfigError(f"--reason {reason}: there is no such reason; there are {', '.join(known)}")
