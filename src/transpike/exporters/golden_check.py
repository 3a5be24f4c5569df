"""Runs net.json with NumPy alone: python check.py [SAMPLES.npz [FOUND.npz]]. Exit code 4: something differs."""
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

def largest(x, layer):
    views = windows(x, layer["kernel"], layer["stride"], layer["padding"], [1] * len(layer["kernel"]))
    return views.max(tuple(range(x.ndim, views.ndim)))

def first(one, arrays, samples):  # currents of whole numbers n, such as pixels: W · n / 2^shift, ties to even
    return np.rint(charge(one["term"], samples["raw." + one["name"]], arrays) / 2.0 ** arrays[one["shift"]])

def run(net, arrays, samples):
    made = {one["name"]: first(one["front"], arrays, samples) for one in net["entrances"] if "front" in one}
    v, totals, trains = {}, 0, {layer["name"]: [] for layer in net["layers"][:-1]}
    for t in range(net["timesteps"]):
        s = made | {one["name"]: samples["in." + one["name"]] for one in net["entrances"] if "front" not in one}
        s.update({one["name"]: s[one["name"]][t] for one in net["entrances"] if one["kind"] == "spikes"})
        for layer in net["layers"]:
            name = layer["name"]
            if layer["kind"] == "maximum":  # sends the change of the largest number of spikes in each window
                before = v.get(name, np.zeros_like(s[layer["source"]]))
                v[name] = before + s[layer["source"]]
                s[name] = largest(v[name], layer) - largest(before, layer)
            else:
                z = sum(charge(term, s[term["source"]], arrays).reshape(-1, *layer["shape"]) for term in layer["terms"])
                z = z + sum(s[current] for current in layer["currents"]) + arrays[layer["bias"]]
                if layer["kind"] == "readout":
                    totals = totals + z * (t >= layer["start"])
                    continue
                u, threshold = v.get(name, arrays[layer["initial"]]) + z, arrays[layer["threshold"]]
                s[name] = (u >= threshold).astype(np.int64)
                v[name] = u - s[name] * threshold if layer["reset"] == "subtract" else u * (1 - s[name])
            trains[name].append(s[name])
    ends = {"v." + layer["name"]: v[layer["name"]] for layer in net["layers"] if layer["kind"] == "integrate"}
    return {"out." + name: np.array(steps) for name, steps in trains.items()} | ends | {"totals": totals}

if __name__ == "__main__":
    here = Path(__file__).parent
    read = lambda path: {name: value.astype(np.int64) for name, value in np.load(path).items()}
    samples = read(sys.argv[1] if len(sys.argv) > 1 else here / "samples.npz")
    found = run(json.loads((here / "net.json").read_text()), read(here / "net.npz"), samples)
    wrong = {name: int((value != samples[name]).sum()) for name, value in found.items() if name in samples}
    print(*(f"{name:40} {number} of {found[name].size} differ" for name, number in wrong.items()), sep="\n")
    np.savez(sys.argv[2], **found) if len(sys.argv) > 2 else sys.exit(4 if any(wrong.values()) else 0)
