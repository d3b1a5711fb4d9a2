"""Preparation turns a found folder into a skill that can be served, or says why not.

The order is chosen so that foreign code runs as late and as little as possible: manifest and
grants first, then the snapshot, then packages from outside, and only then the describe step,
inside a sandbox. Nothing here imports a handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, final

import msgspec

from swarmharness.skills.description import Description, decode_description
from swarmharness.skills.digest import env_digest
from swarmharness.skills.errors import BadSkillFile, EnvironmentFailed, SkillBlocked
from swarmharness.skills.folder import HANDLER, MANIFEST, MODELS
from swarmharness.skills.grants import Ceilings, Grant, Terms, missing, settle
from swarmharness.skills.io.description_cache import DescriptionCache, description_key
from swarmharness.skills.io.discovery import FoundFolder
from swarmharness.skills.io.installed_environment import (
    EnvironmentLease,
    EnvironmentSource,
    InstalledEnvironment,
)
from swarmharness.skills.io.listing import open_regular
from swarmharness.skills.io.snapshot import Snapshot, SnapshotStore
from swarmharness.skills.manifest import MANIFEST_LIMIT, Manifest, parse_manifest
from swarmharness.skills.metadata import DEFAULT_TIMEOUT_MS, checked_name, merge_metadata
from swarmharness.skills.sandbox.runnable import Isolation, Resources, RunnableSkill
from swarmharness.skills.schema import schema_digest
from swarmharness.skills.served import Digests, ServedSkill


class Describer(Protocol):
    """The sandbox, as far as reading a skill needs it: the bytes come from foreign code."""

    async def describe(self, runnable: RunnableSkill) -> bytes: ...


@final
class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A skill, how to run it, and the packages that it holds on to."""

    skill: ServedSkill
    runnable: RunnableSkill
    lease: EnvironmentLease | None = None

    @property
    def name(self) -> str:
        return self.skill.name

    @property
    def generation(self) -> bytes:
        return self.skill.generation


@final
class Preparer:
    """What all skills of one node are prepared with."""

    def __init__(
        self,
        *,
        snapshots: SnapshotStore,
        describer: Describer,
        base: InstalledEnvironment,
        descriptions: DescriptionCache | None = None,
        grants: Mapping[str, Grant] | None = None,
        ceilings: Ceilings | None = None,
        environments: EnvironmentSource | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`grants` go by the folder's name, never by one that the folder gives itself;
        `variables` are what they may hand out.
        """
        self._snapshots = snapshots
        self._describer = describer
        self._base = base
        self._descriptions = descriptions
        self._grants = grants or {}
        self._ceilings = ceilings or Ceilings()
        self._environments = environments
        self._variables = variables or {}

    async def prepare(self, found: FoundFolder) -> Prepared:
        """`SkillBlocked` for missing grants; any other `SwarmError` or `OSError` is the reason."""
        if found.problem:
            raise BadSkillFile(found.problem)
        grant = self._grant(found)
        content, support = await asyncio.to_thread(self._take, found)
        manifest = await asyncio.to_thread(_read_manifest, content.path)
        needs = missing(manifest.request, grant)
        if needs:
            raise SkillBlocked(f"needs {'; '.join(needs)}")
        lease = await self._lease(manifest)
        sources = _Sources(content, support, manifest, grant, lease)
        try:
            return await self._describe(found, sources)
        except BaseException:
            if lease is not None:
                lease.close()
            raise

    def _take(self, found: FoundFolder) -> tuple[Snapshot, Snapshot]:
        content = self._snapshots.take(found.path)
        for name in (HANDLER, MODELS):
            path = content.path / name
            if not path.resolve().is_relative_to(content.path.resolve()):
                raise BadSkillFile(f"{name} is a link that leads out of the folder")
        return content, self._snapshots.take_support(found.support)

    def _grant(self, found: FoundFolder) -> Grant:
        """Whoever wrote the folder chose what is in it; its place was chosen by the operator."""
        grant = self._grants.get(found.path.name)
        if grant is not None and found.namesake is not None:
            raise SkillBlocked(f"has no grant: the grant of its name is for {found.namesake}")
        return grant or Grant()

    async def _lease(self, manifest: Manifest) -> EnvironmentLease | None:
        if not manifest.request.requirements:
            return None
        if self._environments is None:
            raise EnvironmentFailed("This node cannot install packages for skills.")
        return await self._environments.acquire(manifest.request.requirements)

    async def _describe(self, found: FoundFolder, sources: _Sources) -> Prepared:
        request, lease = sources.manifest.request, sources.lease
        runnable = self._runnable(found, sources)
        # The real limit may stand in the front matter, which only the sandbox reads.
        first, _ = settle(request, sources.grant, self._ceilings, timeout_ms=DEFAULT_TIMEOUT_MS)
        packages = lease.distributions if lease is not None else ()
        environment = env_digest(self._base.interpreter, (*self._base.distributions, *packages))
        key = description_key(
            sources.content.digest, sources.support.digest, environment, runnable.mount
        )
        description = await self._asked(_with_terms(runnable, first), key)
        metadata = merge_metadata(
            sources.manifest.skill,
            description.front_matter,
            docstring=description.docstring,
            folder_name=found.path.name,
        )
        terms, cut = settle(request, sources.grant, self._ceilings, timeout_ms=metadata.timeout_ms)
        skill = ServedSkill(
            folder=str(found.path),
            metadata=metadata,
            request=request,
            terms=terms,
            description=description,
            digests=Digests(
                content=sources.content.digest,
                support=sources.support.digest,
                environment=environment,
                schema=schema_digest(description.input_schema, description.output_schema),
            ),
            is_pinned=sources.content.is_pinned and sources.support.is_pinned,
            mount=runnable.mount,
            warnings=(
                *sources.manifest.warnings,
                *description.warnings,
                *found.warnings,
                *cut,
                *self._valueless(terms),
                *_live("the folder", sources.content),
                *_live("what lies beside the folder", sources.support),
            ),
        )
        runnable = msgspec.structs.replace(runnable, name=metadata.name, digest=skill.generation)
        return Prepared(skill=skill, runnable=_with_terms(runnable, terms), lease=lease)

    async def _asked(self, runnable: RunnableSkill, key: str) -> Description:
        """From the cache, unless secrets are at play: what was said with them is not kept."""
        cache = self._descriptions if not runnable.env else None
        if cache is not None:
            kept = await asyncio.to_thread(cache.get, key)
            if kept is not None:
                try:
                    return decode_description(kept)
                except BadSkillFile:
                    await asyncio.to_thread(cache.drop, key)
        frame = await self._describer.describe(runnable)
        description = decode_description(frame)
        if cache is not None:
            await asyncio.to_thread(cache.put, key, frame)
        return description

    def _runnable(self, found: FoundFolder, sources: _Sources) -> RunnableSkill:
        """Before it has been asked: named by its manifest or its folder, with default terms."""
        asked = sources.manifest.request.env
        return RunnableSkill(
            name=checked_name(sources.manifest.skill.get("name", found.path.name)),
            folder=sources.content.path,
            mount=f"/app/{found.path.parent.name or 'skills'}/{found.path.name}",
            digest=sources.content.digest,
            # What is empty is nowhere in the snapshot, which holds files.
            support=tuple(
                shown
                for path in found.support
                if (shown := sources.support.path / path.name).exists()
            ),
            environment_path=sources.lease.path if sources.lease is not None else None,
            env=tuple(
                sorted((key, self._variables[key]) for key in asked if key in self._variables)
            ),
        )

    def _valueless(self, terms: Terms) -> list[str]:
        return [
            f"variable {key} is granted, but has no value on this node"
            for key in terms.env
            if key not in self._variables
        ]


@final
class _Sources(msgspec.Struct, frozen=True):
    """What is known of a folder before its code runs."""

    content: Snapshot
    support: Snapshot
    manifest: Manifest
    grant: Grant
    lease: EnvironmentLease | None


def _with_terms(runnable: RunnableSkill, terms: Terms) -> RunnableSkill:
    return msgspec.structs.replace(
        runnable,
        isolation=Isolation(terms.isolation),
        timeout_ms=terms.timeout_ms,
        concurrency=terms.concurrency,
        queue=terms.queue,
        resources=Resources(
            cpu_milli=terms.cpu_milli, memory_mb=terms.memory_mb, disk_mb=terms.disk_mb
        ),
        max_input_bytes=terms.max_input_bytes,
        max_output_bytes=terms.max_output_bytes,
        network_allow=terms.network_allow,
    )


def _live(what: str, snapshot: Snapshot) -> list[str]:
    if snapshot.is_pinned:
        return []
    return [f"{what} is too large to be copied and is mounted as it lies"]


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_symlink() and not path.exists():
        return parse_manifest(None)
    try:
        with open_regular(path) as file:
            return parse_manifest(file.read(MANIFEST_LIMIT + 1))
    except OSError as error:
        raise BadSkillFile(f"skill.toml cannot be read: {error.strerror}") from None
