"""The benchmark measures, in one run, how fast a swarm is beside what it is compared with.

`python -m bench` prints a table, with `--json` one envelope as its last line. Figures that are
compared are taken in turns, so that whatever else the machine does hits them alike; ratios of
one run mean something, its milliseconds are those of one machine on one day.
"""
