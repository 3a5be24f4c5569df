"""Neurons of net.json that send several levels, or levels of either sign; check.py runs them."""

import numpy as np


def wanted(rule, u, arrays):  # of sigma-delta neurons with the estimates u: what they want to have sent, in 1/1024
    slope = np.where(u < 0, arrays[rule["falling"]], arrays[rule["rising"]])
    w = np.clip(u, -arrays[rule["reach"]], arrays[rule["reach"]])
    n = (slope * w + arrays[rule["offset"]]) // arrays[rule["divisor"]]  # rounded down
    return arrays[rule["times"]] * np.clip(n, arrays[rule["low"]], arrays[rule["high"]])

def powers(rule, u, threshold, sent):  # powers of two, the largest first: the first one that fits, or all that fit
    found = 0 * u
    for p in (2**k for k in reversed(range(rule["most"].bit_length()))):
        rest = u - found * threshold
        fits = 4 * abs(rest) >= 3 * p * threshold
        fits &= (found == 0) | (rule["kind"] == "all")
        fits &= (u >= 0) | (sent >= p) | (rule["kind"] != "nearest")  # this one takes back at most what it sent
        found += np.sign(rest) * fits * p
    return found

def fire(layer, u, arrays, train):  # levels and rests of the potentials u; train: the levels of the steps before
    rule, threshold, u = layer["rule"], arrays[layer["threshold"]], u.astype(np.int64)
    sent = 0 * u + (0 if rule["kind"] == "levels" else sum(train))
    if "divisor" in rule:
        return powers(rule, wanted(rule, u, arrays) - threshold * sent, threshold, sent), u
    if rule["kind"] == "levels":
        s = np.clip(u // threshold, 0, rule["most"])
    elif rule["kind"] in ("signed", "both"):
        takes_back = (u <= -arrays[rule["below"]]) & ((sent > 0) | (rule["kind"] == "both"))
        s = (u >= threshold).astype(np.int64) - takes_back
    else:
        s = powers(rule, u, threshold, sent)
    return s, u - s * threshold if layer["reset"] == "subtract" else u * (s == 0)
