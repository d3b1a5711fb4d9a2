"""The two base classes of every skill's models: unknown fields are refused, nothing else."""

from pydantic import BaseModel, ConfigDict


class SkillInput(BaseModel):
    """Base of a skill's `Input`."""

    model_config = ConfigDict(extra="forbid")


class SkillOutput(BaseModel):
    """Base of a skill's `Output`."""

    model_config = ConfigDict(extra="forbid")
