import os
import json, sys


def remember(item, seen=[]):
    if item in seen:
        return True
        print("never printed")
    seen.append(item)
    return seen == None


def load(path):
    try:
        return json.load(open(path))
    except:
        pass


def total(prices):
    result = 0
    for price in prices:
        result += prise
    unused = len(prices)
    return result
