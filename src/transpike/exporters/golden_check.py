"""Runs net.json with NumPy alone: python check.py [SAMPLES.npz [FOUND.npz]]. Exit code 4: something differs."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(x, kernel, stride, padding, dilation, edge=0):  # (batch, channels, *space) → (batch, …, *outputs, *kernel)
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=edge)
    views = sliding_window_view(x, [d * (k - 1) + 1 for k, d in zip(kernel, dilation)], range(2, x.ndim))
    return views[(..., *(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))]

def charge(term, levels, arrays):  # W · x, x the levels of the source in the order of the index, −1 for a zero
    w, x = arrays[term["weight"]].astype(float), levels.reshape(len(levels), -1)  # float64 is exact below 2^53
    i = np.arange(x.shape[1]) if term["index"] is None else arrays[term["index"]].ravel()
    x = (x[:, i] * (i >= 0)).reshape(len(x), *term["shape"])
    if term["kind"] != "conv":
        return x * w if term["kind"] == "scale" else x @ w.T
    views = windows(x, w.shape[2:], term["stride"], term["padding"], term["dilation"])
    axes = [1, *range(2, w.ndim)], [1, *range(w.ndim, 2 * w.ndim - 2)]  # of the weights, of the windows
    groups = zip(np.split(views, term["groups"], 1), np.split(w, term["groups"]))
    return np.concatenate([np.moveaxis(np.tensordot(part, k, axes[::-1]), -1, 1) for part, k in groups], 1)

def largest(x, layer):
    views = windows(x, layer["kernel"], layer["stride"], layer["padding"], [1] * len(layer["kernel"]), -2**62)
    return views.max(tuple(range(x.ndim, views.ndim)))

def fire(layer, u, arrays, sent):  # levels and rests of potentials u; rules.py has neurons that send several levels
    threshold, s = arrays[layer["threshold"]], (u >= arrays[layer["threshold"]]).astype(np.int64)
    return s, u - s * threshold if layer["reset"] == "subtract" else u * (1 - s)

def run(net, arrays, samples, fire):
    fronts = {one["name"]: one["front"] for one in net["entrances"] if "front" in one}  # W · n / 2^shift, ties to even
    w_n = {name: charge(one["term"], samples["raw." + one["name"]], arrays) for name, one in fronts.items()}
    made = {name: np.rint(w_n[name] / 2.0 ** arrays[one["shift"]]) for name, one in fronts.items()}
    v, totals, trains = {}, 0, {layer["name"]: [] for layer in net["layers"][:-1]}
    for t in range(net["timesteps"]):
        now = {one["name"]: t if one["kind"] == "spikes" else ... for one in net["entrances"] if "front" not in one}
        s = made | {name: samples["in." + name][place] for name, place in now.items()}
        for layer in net["layers"]:
            name, on = layer["name"], {key: a <= t < b for key, (a, b) in layer.get("timing", {}).items()}
            if layer["kind"] == "maximum":  # sends the change of the largest sum of levels in each window
                before, v[name] = v.get(name, 0 * s[layer["source"]]), v.get(name, 0) + s[layer["source"]]
                s[name] = largest(v[name], layer) - largest(before, layer)
            else:
                z = sum(charge(term, s[term["source"]], arrays).reshape(-1, *layer["shape"]) for term in layer["terms"])
                z = z + on["currents"] * sum(s[one] for one in layer["currents"]) + on["bias"] * arrays[layer["bias"]]
                if layer["kind"] == "readout":
                    totals = totals + z * (t >= layer["start"])
                    continue
                u = v.get(name, arrays[layer["initial"]]) + z
                s[name], v[name] = fire(layer, u, arrays, trains[name]) if on["fires"] else (0 * u, u)
            trains[name].append(s[name])
    ends = {"v." + layer["name"]: v[layer["name"]] for layer in net["layers"] if layer["kind"] == "integrate"}
    return {"out." + name: np.array(steps) for name, steps in trains.items()} | ends | {"totals": totals}

if __name__ == "__main__":
    here = Path(__file__).parent
    read = lambda path: {name: value.astype(np.int64) for name, value in np.load(path).items()}
    samples = read(sys.argv[1] if len(sys.argv) > 1 else here / "samples.npz")
    rule = runpy.run_path(str(here / "rules.py"))["fire"] if (here / "rules.py").exists() else fire
    found = run(json.loads((here / "net.json").read_text()), read(here / "net.npz"), samples, rule)
    wrong = {name: int((value != samples[name]).sum()) for name, value in found.items() if name in samples}
    print(*(f"{name:40} {number} of {found[name].size} differ" for name, number in wrong.items()), sep="\n")
    np.savez(sys.argv[2], **found) if len(sys.argv) > 2 else sys.exit(4 if any(wrong.values()) else 0)
