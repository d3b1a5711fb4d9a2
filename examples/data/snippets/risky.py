"""Code that works until somebody hostile provides the input."""

import subprocess


def calculate(formula):
    return eval(formula)


def list_folder(name):
    return subprocess.run("ls " + name, shell=True, capture_output=True)


def ratio(part, whole):
    assert (whole != 0, "whole must not be zero")
    return part / whole


LABEL = "%s of %s" % ("one",)
