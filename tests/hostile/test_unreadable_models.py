"""Models as people have them: wrapped, cast, hooked, quantised, with two inputs. Each is converted or told its own reason."""

import re
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.errors import SettingError, UnsupportedModel
from transpike.workflow.capture import capture

X = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.f, self.g = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.g(torch.relu(self.f(x)))


def changed(forward, **parts):
    """A Plain with another forward and more parts."""
    net = type("Changed", (Plain,), {"forward": forward})()
    for name, part in parts.items():
        setattr(net, name, part)
    return net


def plain(self, x):
    return Plain.forward(self, x)


def same(model, **settings):
    """The captured graph computes what Plain computes."""
    remarks = []
    graph = capture(model, X, remarks=remarks, **settings)
    with torch.no_grad():
        torch.testing.assert_close(graph.run(X), Plain()(X), atol=1e-5, rtol=1e-4)
    return graph, remarks


def _with_autocast(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = torch.relu(self.f(x))
    return self.g(h.float())


def _nested(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = self.f(x)
        with torch.autocast("cpu", enabled=False):
            h = torch.relu(h.float())
        return self.g(h)


def _two_regions(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = self.f(x)
    with torch.no_grad():
        h = torch.relu(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return self.g(h)


def _two_outputs(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h, doubled = self.f(x), 2 * self.f(x)
    return self.g(torch.relu(doubled - h))


@pytest.mark.parametrize(
    "forward", [torch.autocast("cpu", dtype=torch.bfloat16)(plain), _with_autocast, _nested, _two_regions, _two_outputs]
)
def test_autocast_is_left_out_and_said(forward):
    _, remarks = same(changed(forward))
    assert remarks == ["torch.autocast in the model's forward is ignored: the results are those of full precision"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert remarks[0] in ts.convert(changed(forward), None, X).remarks


def _off(self, x):
    with torch.autocast("cuda", enabled=False):
        return Plain.forward(self, x)


def _no_grad(self, x):
    with torch.no_grad():
        return Plain.forward(self, x)


def _by_name(self, *, x):
    return Plain.forward(self, x)


def _by_name_with_defaults(self, *, x, mask=None, scale=1.0):
    return Plain.forward(self, x)


def _optional(self, x, mask=None, return_features=False):
    return Plain.forward(self, x)


def _noisy(self, x):
    print("shape", x.shape)
    return Plain.forward(self, x)


def _hooked(hook):
    net = Plain()
    net.f.register_forward_hook(hook)
    return net


def _stripped(net):
    """Without the gradient history that a training run leaves behind."""
    net(X)
    return net


SEEN = []
ACCEPTED = {
    "autocast that is off": lambda: changed(_off),
    "no_grad": lambda: changed(_no_grad),
    "input by name": lambda: changed(_by_name),
    "input by name, with options": lambda: changed(_by_name_with_defaults),
    "options": lambda: changed(_optional),
    "prints": lambda: changed(_noisy),
    "DataParallel": lambda: nn.DataParallel(Plain()),
    "compiled": lambda: torch.compile(Plain()),
    "compiled, parallel": lambda: torch.compile(nn.DataParallel(Plain())),
    "train mode": lambda: Plain().train(),
    "double": lambda: Plain().double(),
    "hook that records numbers": lambda: _hooked(lambda *a: SEEN.append(float(a[2].mean()))),
    "hook that records arrays": lambda: _hooked(lambda *a: SEEN.append(a[2].detach().numpy())),
    "weight norm": lambda: changed(plain, f=_stripped(torch.nn.utils.weight_norm(Plain().f))),
    "parametrised": lambda: changed(plain, f=_stripped(torch.nn.utils.parametrizations.weight_norm(Plain().f))),
    "keeps what it saw": lambda: changed(plain, last=Plain()(X)),
    "constants in float64": lambda: changed(
        lambda s, x: Plain.forward(s, x * s.one), one=torch.ones(4, dtype=torch.float64)
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.filterwarnings("ignore")
def test_models_as_people_have_them_are_captured(name, capsys):
    same(ACCEPTED[name]())
    out, err = capsys.readouterr()
    assert err == ""
    assert not re.search(r"torch\.export|def forward|\bs\d+\b", out)  # graphs, and prints with symbolic sizes


def test_layers_have_the_names_of_the_network_without_its_wrappers():
    graph, _ = same(torch.compile(nn.DataParallel(Plain())))
    assert [node.name for node in graph] == ["input", "f", "relu", "g"]


def test_the_model_and_its_hooks_are_left_as_they_were():
    net = _hooked(lambda *a: SEEN.append(float(a[2].detach().mean())))
    same(net)
    before = len(SEEN)
    net(X)
    assert len(SEEN) == before + 1


def test_a_hook_that_changes_the_answer_counts():
    net = _hooked(lambda module, inputs, output: output * 2)
    graph = capture(net, X)
    with torch.no_grad():
        torch.testing.assert_close(graph.run(X), net(X))
        assert not torch.allclose(net(X), Plain()(X))


def _branch(self, x):
    return Plain.forward(self, x) if x.sum() > 0 else x


def _array(self, x):
    return Plain.forward(self, torch.from_numpy(x.numpy()))


def _batch(self, batch):
    return Plain.forward(self, batch["x"])


def _ids(self, x):
    return Plain.forward(self, self.table(x).mean(1))


def _half(self, x):
    return self.g(torch.relu(self.f(x.half())).float())


def _two(self, image, mask):
    return Plain.forward(self, image + mask)


def _two_by_name(self, image, *, mask):
    return Plain.forward(self, image + mask)


def _nothing(self, x):
    Plain.forward(self, x)


def _by_name_only(self, *, x=None, y=None):
    return Plain.forward(self, x)


HERE = r"test_unreadable_models\.py:\d+"
REFUSED = {
    "control flow": (
        lambda: changed(_branch),
        rf"control flow of the model depends on values of its input \(.*{HERE}\)",
    ),
    "NumPy": (lambda: changed(_array), rf"calls NumPy \(.*{HERE}\)"),
    "dict": (
        lambda: changed(_batch),
        rf"fails on an input of shape \(8, 4\) \(.*{HERE}\)(.|\n)*that structure, target\)",
    ),
    "embedding": (
        lambda: changed(_ids, table=nn.Embedding(9, 4)),
        r"integers \(table is an embedding\).*tokens\.long\(\)",
    ),
    "half": (lambda: changed(_half), "remove casts"),
    "two inputs": (lambda: changed(_two), r"takes 2 inputs \(image, mask\).*is \(\(image, mask\), target\)"),
    "two, one by name": (
        lambda: changed(_two_by_name),
        r"2 inputs \(image, mask\).*\{\"image\": image, \"mask\": mask\}",
    ),
    "by name only": (lambda: changed(_by_name_only), r"only by name \(x, y\), and none is required"),
    "scripted": (lambda: torch.jit.script(nn.ReLU()), "TorchScript program .*load_state_dict"),
    "traced inside": (lambda: nn.Sequential(torch.jit.trace(nn.ReLU(), X)), r"^0 \(.*TorchScript program"),
    "quantised": (
        lambda: torch.ao.quantization.quantize_dynamic(Plain(), {nn.Linear}),
        r"f \(Linear\) is quantised by torch\.ao.*before quantisation",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), r"0\.weight has no size yet.*one batch"),
    "list": (lambda: nn.ModuleList([Plain()]), "no forward method.*nn.Sequential"),
    "lock": (lambda: changed(plain, lock=threading.Lock()), "cannot be copied.*outside of the module"),
    "another shape": (lambda: nn.Linear(7, 3), r"fails on an input of shape \(8, 4\).*8x4 and 7x3(.|\n)*training data"),
    "no answer": (lambda: changed(_nothing), "returns no tensor"),
    "a hook that changes by value": (
        lambda: _hooked(lambda m, i, o: o * float(o.max())),
        "Also remove the forward hooks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_every_other_model_hears_its_own_reason(name, capsys):
    make, says = REFUSED[name]
    with pytest.raises(UnsupportedModel, match=says) as error:
        capture(make(), X)
    assert ("control flow" in str(error.value)) == (name in ("control flow", "a hook that changes by value"))
    assert capsys.readouterr() == ("", "")


def test_what_is_no_module_is_told_what_to_do():
    with pytest.raises(SettingError, match="load these weights into it"):
        ts.convert(Plain().state_dict(), None, X)
    with pytest.raises(SettingError, match=r"forward method of an nn\.Module"):
        ts.convert(lambda x: x, None, X)


def test_the_data_that_a_message_shows_makes_the_model_convertible():
    with pytest.raises(UnsupportedModel) as error:
        capture(changed(_two), X)
    line = re.search(r"a batch is (.*?) or ", str(error.value))[1]
    batch = eval(line, {"image": X, "mask": 0 * X, "target": None})
    snn = ts.convert(changed(_two), None, [batch], allow_no_neurons=True)
    assert [node.name for node in snn.graph.inputs] == ["image", "mask"]


def test_nothing_of_torch_export_reaches_the_terminal():
    """In a process of its own: torch's logs go to the stderr that existed at its import."""
    code = (
        "import torch, transpike as ts\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x): return x if float(x.sum()) > 0 else -x\n"
        "try: ts.convert(Net(), None, torch.rand(20, 4))\n"
        "except ts.errors.UnsupportedModel as error: print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("UnsupportedModel\n", "")
