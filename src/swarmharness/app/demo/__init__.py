"""The demo: five nodes on this machine work for a sixth, one is killed, nothing is lost."""
