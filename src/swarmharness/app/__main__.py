"""`python -m swarmharness.app` is the `swarm` command."""

from swarmharness.app.main import main

main()
