"""A served skill is one version of one folder that answers calls, with all that is known of it."""

from __future__ import annotations

import hashlib
from typing import final

import msgspec

from swarmharness.skills.description import Description
from swarmharness.skills.digest import Digest, replica_digest
from swarmharness.skills.grants import Terms
from swarmharness.skills.metadata import SkillMetadata
from swarmharness.skills.request import SkillRequest
from swarmharness.skills.schema import SchemaDigest


@final
class Digests(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal before two nodes' results may be compared."""

    content: Digest
    support: Digest
    environment: Digest
    schema: SchemaDigest

    @property
    def replica(self) -> Digest:
        return replica_digest(self.content, self.support, self.environment, self.schema)


@final
class ServedSkill(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about it except how to run it."""

    folder: str
    metadata: SkillMetadata
    request: SkillRequest
    terms: Terms
    description: Description
    digests: Digests
    is_pinned: bool
    """Whether what runs is a sealed copy; else the folder is mounted live."""
    mount: str
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def version(self) -> str:
        """The author's, else one that changes with the content."""
        return self.request.version or f"0+{self.digests.content.hex()[:8]}"

    @property
    def generation(self) -> bytes:
        """Equal if a running sandbox of the one may serve calls of the other."""
        state = hashlib.sha256(self.digests.replica)
        state.update(msgspec.msgpack.encode((self.mount, self.terms)))
        return state.digest()
