"""Runs net.json of first spikes with NumPy alone: python check.py [SAMPLES.npz [FOUND.npz]]. Exit code 4: differs."""
# fmt: off

import json
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(x, kernel, stride, padding, dilation):  # (batch, channels, *space) → (batch, channels, *outputs, *kernel)
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
    views = sliding_window_view(x, reach, tuple(range(2, x.ndim)))
    return views[(..., *(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))]

def charge(term, levels, arrays):  # W · x, x the levels of the source in the order of the index, −1 for a zero
    w, x = arrays[term["weight"]].astype(float), levels.reshape(len(levels), -1)  # float64 is exact below 2^53
    if term["index"] is not None:
        x = x[:, arrays[term["index"]].ravel()] * (arrays[term["index"]].ravel() >= 0)
    x = x.reshape(len(x), *term["shape"])
    if term["kind"] != "conv":
        return x * w if term["kind"] == "scale" else x @ w.T
    views = windows(x, w.shape[2:], term["stride"], term["padding"], term["dilation"])
    axes = [1, *range(2, w.ndim)], [1, *range(w.ndim, 2 * w.ndim - 2)]  # of the weights, of the windows
    groups = zip(np.split(views, term["groups"], 1), np.split(w, term["groups"]))
    return np.concatenate([np.moveaxis(np.tensordot(part, k, axes[::-1]), -1, 1) for part, k in groups], 1)

def largest(x, layer):  # the earliest spike of each window is that of the highest level
    views = windows(x, layer["kernel"], layer["stride"], layer["padding"], [1] * len(layer["kernel"]))
    return views.max(tuple(range(x.ndim, views.ndim)))

def first(one, arrays, samples):  # currents of integers n, such as pixels: W · n / 2^shift, ties to even
    return np.rint(charge(one["term"], samples["raw." + one["name"]], arrays) / 2.0 ** arrays[one["shift"]])

def run(net, arrays, samples):
    s = {one["name"]: first(one["front"], arrays, samples) if "front" in one else samples["in." + one["name"]]
         for one in net["entrances"]}
    one, v, steps = net["entrances"][0], {}, net["timesteps"]
    batch = s[one["name"]].shape[one["kind"] == "spikes"]
    for layer in net["layers"]:  # each sends levels (steps, batch, *shape), and reads those of layers before it
        name, shape = layer["name"], (batch, *layer["shape"])
        if layer["kind"] == "delay":
            s[name] = np.pad(s[layer["source"]], [(layer["wait"], 0)] + [(0, 0)] * len(shape))[:steps]
        elif layer["kind"] == "maximum":  # what comes later is lower, so that the maximum so far never changes
            most = [largest(x, layer) for x in np.cumsum(s[layer["source"]], 0)]
            s[name] = np.diff(most, axis=0, prepend=np.zeros_like(most[:1]))
        else:  # bias and currents enter before the first step; each neuron fires once, and its potential remains
            u = sum(s[one] for one in layer["currents"]) + arrays[layer["bias"]] + arrays[layer["initial"]]
            u, fired, s[name] = u + np.zeros(shape), np.zeros(shape, bool), np.zeros((steps, *shape))
            for t in range(steps):
                heard = ((one, s[one["source"]][t]) for one in layer["terms"])
                u = u + sum(charge(one, x, arrays).reshape(shape) for one, x in heard if x.any())
                if 0 <= (slot := t - layer["before"]) < len(layer["levels"]):
                    now = (u >= arrays[layer["thresholds"]][slot]) & ~fired
                    fired, s[name][t] = fired | now, now * layer["levels"][slot]
            v[name] = u
    totals, trains = v.pop(name), {"out." + layer["name"]: s[layer["name"]] for layer in net["layers"][:-1]}
    return trains | {"v." + name: u for name, u in v.items()} | {"totals": totals}

if __name__ == "__main__":
    here = Path(__file__).parent
    read = lambda path: {name: value.astype(np.int64) for name, value in np.load(path).items()}
    samples = read(sys.argv[1] if len(sys.argv) > 1 else here / "samples.npz")
    found = run(json.loads((here / "net.json").read_text()), read(here / "net.npz"), samples)
    wrong = {name: int((value != samples[name]).sum()) for name, value in found.items() if name in samples}
    print(*(f"{name:40} {number} of {found[name].size} differ" for name, number in wrong.items()), sep="\n")
    np.savez(sys.argv[2], **found) if len(sys.argv) > 2 else sys.exit(4 if any(wrong.values()) else 0)
