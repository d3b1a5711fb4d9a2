"""The simulated world on virtual time."""
