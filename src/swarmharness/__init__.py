"""Your machines and other people's machines become one swarm."""

__version__ = "0.1.0"
