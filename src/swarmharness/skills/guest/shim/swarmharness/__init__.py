"""The part of swarmharness that a skill may import inside its sandbox."""
