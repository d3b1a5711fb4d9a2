"""Commands about tasks: run."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from swarmharness.app.artifact_files import ArtifactFiles
from swarmharness.app.flags import JsonFlag
from swarmharness.app.session import SESSION, say, show
from swarmharness.skills.errors import InputTooLarge, InvalidInput

INPUT_LIMIT = 64 * 1024 * 1024  # bytes read from a file or stdin; no skill takes more


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("run")(run)


def run(
    skill: Annotated[str, typer.Argument(help="The skill's name, as `swarm skills` lists it.")],
    input: Annotated[  # noqa: A002  the flag's name
        str,
        typer.Option(
            "--input", "-i", metavar="JSON|@FILE|-", help="The input: JSON, @FILE, or - for stdin."
        ),
    ] = "{}",
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="NODE", help="Only on this node (id, short id, or “here”)."),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print each piece as it comes.")] = False,
    deadline: Annotated[
        float, typer.Option("--deadline", metavar="SECONDS", min=0.001, max=86_400)
    ] = 120.0,
    no_retry: Annotated[
        bool, typer.Option("--no-retry", help="Do not try another node after a failure.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the files that the skill makes here.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run a skill on this node or a peer, and print its output."""
    call = _Call(
        skill=skill,
        input_json=read_input(input),
        on=on,
        deadline_ms=round(deadline * 1000),
        retry=not no_retry,
    )
    if stream:
        asyncio.run(_stream(call, out))
    else:
        asyncio.run(_run(call, out))


class _Call(msgspec.Struct, frozen=True, kw_only=True):
    skill: str
    input_json: bytes
    on: str | None
    deadline_ms: int
    retry: bool


def read_input(text: str) -> bytes:
    """The JSON that `--input` means; `InvalidInput` says where it is no JSON."""
    if text == "-":
        raw = sys.stdin.buffer.read(INPUT_LIMIT + 1)
    elif text.startswith("@"):
        path = Path(text[1:])
        try:
            with path.open("rb") as file:
                raw = file.read(INPUT_LIMIT + 1)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    else:
        raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > INPUT_LIMIT:
        raise InputTooLarge(f"The input is larger than {INPUT_LIMIT} bytes.")
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = 'In a shell, put JSON in single quotes: --input \'{"text": "hello"}\'.'
        raise InvalidInput(f"The input is not JSON: {error}", hint=hint) from None
    return raw


async def _run(call: _Call, out: Path | None) -> None:
    from swarmharness.sdk.control_client import ControlClient

    async with ControlClient(SESSION.home) as node:
        completed = await node.run(
            call.skill,
            call.input_json,
            on=call.on,
            deadline_ms=call.deadline_ms,
            retry=call.retry,
        )
    files = ArtifactFiles(out)
    for artifact in completed["artifacts"]:
        files.save(artifact)
    if SESSION.is_json:
        SESSION.data("run", completed)
        return
    if "chunks" in completed:
        for chunk in completed["chunks"]:
            show(chunk if isinstance(chunk, str) else msgspec.json.encode(chunk).decode())
    else:
        raw = msgspec.json.encode(completed["output"])
        show(msgspec.json.format(raw, indent=2).decode())
    say(f"done by {_summary(completed)}")


async def _stream(call: _Call, out: Path | None) -> None:
    from swarmharness.sdk.control_client import ControlClient

    files = ArtifactFiles(out)
    async with ControlClient(SESSION.home) as node:
        updates = node.stream(
            call.skill,
            call.input_json,
            on=call.on,
            deadline_ms=call.deadline_ms,
            retry=call.retry,
        )
        async with aclosing(updates):
            async for update in updates:
                if update["type"] == "artifact":
                    files.save(update)
                elif update["type"] == "moved":
                    files.drop()
                if SESSION.is_json:
                    SESSION.data("run.update", update)
                else:
                    _print_update(update)


def _print_update(update: dict[str, Any]) -> None:
    match update["type"]:
        case "chunk":
            show(update["text"])
        case "moved":
            say(f"node {update['short_node']} failed ({update['sentence']}); starting again")
        case "progress":
            say(f"{update['fraction']:.0%} {update['note']}")
        case "completed":
            if update["output"] is not None:
                show(msgspec.json.encode(update["output"]).decode())
            say(f"done by {_summary(update)}")


def _summary(completed: dict[str, Any]) -> str:
    usage = completed["usage"]
    moved = f" after {completed['failures']} failed" if completed["failures"] else ""
    return f"{completed['short_node']}{moved} · {usage['wall_ms']} ms · cpu {usage['cpu_ms']} ms"
