"""Commands about the node itself: init, up, down, status, id, skills."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer

from swarmharness.app.errors import ListenMalformed
from swarmharness.app.flags import JsonFlag, ListenFlag, PeerFlag, SkillsFlag
from swarmharness.app.session import SESSION, say, show, show_line
from swarmharness.kernel.errors import ExitCode
from swarmharness.kernel.ids import node_id_short, node_id_text
from swarmharness.network.address import parse_host_port
from swarmharness.network.errors import BadAddress
from swarmharness.node.api import NodeStatus, SkillStatus

NAME_WIDTH = 32  # columns for names in a table; longer ones push their line aside


def register(app: typer.Typer) -> None:
    """Adds the commands in the order in which help shows them."""
    app.command("init")(init)
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("id")(show_id)
    app.command("skills")(skills)


def init(json: JsonFlag = False) -> None:
    """Make this home's key without starting a node (`up` does it by itself)."""
    from swarmharness.node.identity import load_or_create

    home = SESSION.home
    home.create()
    key = load_or_create(home.identity)
    _show_identity(node_id_text(key.node_id), node_id_short(key.node_id), str(home.path))


def show_id(json: JsonFlag = False) -> None:
    """Print this node's id: the long form for machines, the short form for people."""
    from swarmharness.node.identity import load, load_or_create

    home = SESSION.home
    key = load(home.identity) if home.exists() else load_or_create(home.identity)
    _show_identity(node_id_text(key.node_id), node_id_short(key.node_id), str(home.path))


def up(
    skills: SkillsFlag = None,
    listen: ListenFlag = None,
    peer: PeerFlag = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the node is ready, and leave it running.")
    ] = False,
    allow_tier2: Annotated[
        bool,
        typer.Option(
            "--allow-tier2",
            help="Where there are no user namespaces: run network-free skills under Landlock.",
        ),
    ] = False,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
    json: JsonFlag = False,
) -> None:
    """Run this home's node: serve skills to peers, and send tasks to them."""
    from swarmharness.app.daemon import run_attached, run_detached
    from swarmharness.node.config import merge, read_config

    home = SESSION.home
    if listen is not None:
        try:
            parse_host_port(listen)
        except BadAddress as error:
            raise ListenMalformed(error.sentence) from None
    config = merge(
        read_config(home.config),
        listen=listen,
        peers=tuple(peer or ()),
        skills=tuple(skills or ()),
        allow_tier2=True if allow_tier2 else None,
    )
    for directory in config.skill_directories:
        if not directory.is_dir():
            message = f"“{directory}” is not a directory."
            raise typer.BadParameter(message, param_hint="--skills")
    if detach:
        raise typer.Exit(run_detached(home))
    raise typer.Exit(run_attached(home, config, until_stdin_ends=until_stdin_ends))


def down(json: JsonFlag = False) -> None:
    """Let running tasks end (30 s), then end this home's node."""
    from swarmharness.app.daemon import wait_for_end
    from swarmharness.sdk.control_client import ControlClient

    async def ask() -> int:
        async with ControlClient(SESSION.home) as node:
            await node.shutdown()
            return node.endpoint.pid

    pid = asyncio.run(ask())
    if not SESSION.is_json:
        say("Draining…")
    wait_for_end(pid)
    if SESSION.is_json:
        SESSION.data("down", {"pid": pid})
    else:
        say("The node has ended.")


def status(json: JsonFlag = False) -> None:
    """Who this node is, where others reach it, what it runs, and with whom it is connected."""
    from swarmharness.sdk.control_client import ControlClient

    async def ask() -> NodeStatus:
        async with ControlClient(SESSION.home) as node:
            return await node.status()

    found = asyncio.run(ask())
    if SESSION.is_json:
        SESSION.data("status", found)
    else:
        _print_status(found)
    if found.is_draining or found.problems:
        raise typer.Exit(ExitCode.DEGRADED)


def skills(
    name: Annotated[
        str | None, typer.Argument(help="Show this skill's schemas and words.", show_default=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """What this node and its peers offer, and what is refused and why."""
    from swarmharness.sdk.control_client import ControlClient

    async def ask() -> list[SkillStatus] | dict[str, Any]:
        async with ControlClient(SESSION.home) as node:
            return await node.skills() if name is None else await node.describe(name)

    found = asyncio.run(ask())
    if SESSION.is_json:
        SESSION.data("skills" if name is None else "skill", found)
    elif isinstance(found, dict):
        show(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _print_skills(found)


def _show_identity(long: str, short: str, home: str) -> None:
    if SESSION.is_json:
        SESSION.data("id", {"id": long, "short_id": short, "home": home})
    else:
        show_line(long)
        say(f"short form {short} · home {home}")


def _print_status(found: NodeStatus) -> None:
    show_line(f"node      {found.short_id} · version {found.version} · pid {found.pid}")
    show_line(f"id        {found.id}")
    for address in found.addresses:
        show_line(f"address   {address}")
    show_line(f"home      {found.home}")
    show_line(f"up        {found.uptime_s:.0f} s{' · draining' if found.is_draining else ''}")
    show_line(f"sandbox   {found.sandbox.removeprefix('sandbox ')}")
    refused = f", {found.skills_refused} refused (swarm skills)" if found.skills_refused else ""
    show_line(f"skills    {found.skills_serving} serving{refused}")
    tasks = found.tasks
    submitted = tasks.submitted_completed + tasks.submitted_open + tasks.submitted_failed
    show_line(
        f"tasks     running {tasks.running}, done for others and me {tasks.run_completed},"
        f" submitted {submitted}"
        f" ({tasks.submitted_open} open, {tasks.submitted_failed} failed)"
    )
    for peer in found.peers:
        rtt = "" if peer.rtt_ms is None else f" · {peer.rtt_ms:.1f} ms"
        problem = f" · {peer.problem}" if peer.problem else ""
        noun = "skill" if peer.skills == 1 else "skills"
        show_line(f"peer      {peer.short_id} {peer.state} · {peer.skills} {noun}{rtt}{problem}")
    for problem in found.problems:
        show_line(f"problem   {problem}")
    for warning in found.warnings:
        show_line(f"warning   {warning}")


def _print_skills(found: list[SkillStatus]) -> None:
    if not found:
        say("No skills here, and no peer offers any. `swarm up --skills DIR` serves a directory.")
        return
    width = min(NAME_WIDTH, max(len(skill.name) for skill in found))
    for skill in found:
        words = (
            skill.reason or skill.summary.splitlines()[0] if (skill.reason or skill.summary) else ""
        )
        show_line(f"{skill.name:<{width}}  {skill.node:<12}  {skill.state:<13}  {words}")
