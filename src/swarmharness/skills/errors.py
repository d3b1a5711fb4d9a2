"""Errors of skill folders and of running them. The sandbox's own words map to these."""

from __future__ import annotations

from swarmharness.kernel.errors import Blame, ExitCode, SwarmError


class UnknownSkill(SwarmError):
    """No such skill here."""

    code = "skills.skill_unknown"
    blame = Blame.CALLER
    hint = "`swarm skills` lists what this node and its peers offer."
    elsewhere = True
    http_status = 404


class SkillBroken(SwarmError):
    """The folder is there, but cannot be served; the sentence says why."""

    code = "skills.skill_broken"
    blame = Blame.SELF
    hint = "`swarm skills` shows the reason; saving the mended file loads it again."
    elsewhere = True
    http_status = 503


class SkillBlocked(SwarmError):
    """The skill asks for something that the operator has not granted."""

    code = "skills.skill_blocked"
    blame = Blame.SELF
    hint = "Grant it in the node's config.toml, or remove the request from skill.toml."
    elsewhere = True
    http_status = 503


class InvalidInput(SwarmError):
    """The input is not JSON, or fails the skill's own schema; `data["detail"]` lists where."""

    code = "skills.input_invalid"
    blame = Blame.CALLER
    hint = "`swarm skills NAME` prints the input schema and an example."
    http_status = 422
    exit_code = ExitCode.USAGE


class HandlerFailed(SwarmError):
    """The handler raised an exception."""

    code = "skills.handler_failed"
    blame = Blame.PEER
    hint = "The skill's own code failed on this input; its author can tell more."


class BadOutput(SwarmError):
    """The handler returned something that its own Output model refuses."""

    code = "skills.output_invalid"
    blame = Blame.PEER
    hint = "The skill's handler and its Output model disagree; tell its author."


class SkillTimeout(SwarmError):
    """The handler ran longer than its limit and was stopped."""

    code = "skills.run_timeout"
    blame = Blame.PEER
    hint = "Give it less to do, or ask for a longer timeout_secs in skill.toml."
    http_status = 504
    exit_code = ExitCode.DEADLINE


class CallerStalled(SwarmError):
    """The reader of the stream stopped reading for too long."""

    code = "skills.reader_stalled"
    blame = Blame.CALLER
    hint = "Read the chunks as they come, or ask for less."
    http_status = 408


class ResourceExceeded(SwarmError):
    """The handler hit a limit; `data["kind"]` says which: cpu, memory, processes, disk."""

    code = "skills.resource_exceeded"
    blame = Blame.PEER
    hint = "The input needs more than the skill's resources allow."


class OutputTooLarge(SwarmError):
    """More output than the skill may give."""

    code = "skills.output_too_large"
    blame = Blame.PEER
    hint = "Ask for less, or raise max_output in the skill's [swarm] table."


class InputTooLarge(SwarmError):
    """More input than the skill takes."""

    code = "skills.input_too_large"
    blame = Blame.CALLER
    hint = "Send less, or raise max_input in the skill's [swarm] table."
    http_status = 413
    exit_code = ExitCode.USAGE


class SandboxLost(SwarmError):
    """The sandbox ended before the handler did."""

    code = "skills.sandbox_lost"
    blame = Blame.PEER
    hint = "The handler ended its own process, or the system did; try again or elsewhere."
    elsewhere = True


class SandboxStuck(SwarmError):
    """A sandbox was killed, and is still there."""

    code = "skills.sandbox_stuck"
    blame = Blame.SELF
    hint = "The system does not end the process: look at it with `ps`, or restart the machine."
    elsewhere = True
    http_status = 503


class SandboxProtocolBroken(SwarmError):
    """The sandbox sent what it must never send, and was killed."""

    code = "skills.sandbox_violation"
    blame = Blame.PEER
    hint = "The skill's code is hostile or badly broken: do not serve it."


class Overloaded(SwarmError):
    """All places and the queue are taken."""

    code = "skills.queue_full"
    blame = Blame.WORLD
    hint = "Try again in a moment, or add nodes that offer the same skill."
    elsewhere = True
    later = True
    http_status = 429
    exit_code = ExitCode.REFUSED


class RunCancelled(SwarmError):
    """The call was cancelled."""

    code = "skills.run_cancelled"
    blame = Blame.CALLER
    hint = "Nothing to do: the call was cancelled on request."
    http_status = 499
    exit_code = ExitCode.INTERRUPTED


class SandboxUnavailable(SwarmError):
    """This machine offers no sandbox that would protect its owner, so nothing is run."""

    code = "skills.sandbox_unavailable"
    blame = Blame.SELF
    hint = "Install bubblewrap: sudo apt-get install bubblewrap"
    elsewhere = True
    http_status = 503
    exit_code = ExitCode.REFUSED


class BadNetworkRule(SwarmError):
    """A `network.allow` entry that no connection could mean."""

    code = "skills.network_rule_invalid"
    blame = Blame.CALLER
    hint = "Write host:port, *.host:port, or an address literal such as 192.0.2.1:443."
    exit_code = ExitCode.USAGE


class RequirementRefused(SwarmError):
    """A `requirements` entry that is not a plain package name with version bounds."""

    code = "skills.requirement_invalid"
    blame = Blame.CALLER
    hint = 'Write names and versions only, such as "pillow>=12"; no addresses, paths or options.'
    exit_code = ExitCode.USAGE


class EnvironmentFailed(SwarmError):
    """The skill's own packages could not be installed; `data["output"]` ends with the reason."""

    code = "skills.environment_failed"
    blame = Blame.SELF
    hint = "Check the names and versions in requirements, and that the package index answers."
    elsewhere = True
    http_status = 503


class BadSkillFile(SwarmError):
    """A file of a skill folder, or what the folder says of itself, cannot be meant that way."""

    code = "skills.folder_invalid"
    blame = Blame.SELF
    hint = "Mend the named file; saving it loads the skill again."
    http_status = 503


class BadGrant(SwarmError):
    """What the operator wrote about a skill cannot be read."""

    code = "skills.grant_invalid"
    blame = Blame.CALLER
    hint = "Mend the skill's table in the node's config.toml."
    http_status = 400
    exit_code = ExitCode.USAGE
