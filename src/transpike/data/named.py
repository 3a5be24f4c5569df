"""Well-known data sets by name: search paths, classes, mean and standard deviation."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike.core.preprocessing import Preprocessing
from transpike.errors import DataError

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10_VALUES = Preprocessing((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_VALUES = Preprocessing((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
JPEG_VALUES = Preprocessing((0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606))
TINY_VALUES = Preprocessing((0.4800, 0.4481, 0.3977), (0.2765, 0.2691, 0.2819))
IMAGENET_VALUES = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Named:
    """One data set. Paths are relative to the data directory, tried in this order: archives, the set's own files.

    ``archives``: a pattern may match several files, which are concatenated; ``index_files``: folders with IDX files;
    ``pickles``: a folder that torchvision reads; ``pictures``: folders with train/ and val/. ``source`` reads the
    archives, the first or, where there are ``many``, all that match; ``obtain`` states how to get them.
    """

    title: str
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None = None
    archives: tuple[str, ...] = ()
    index_files: tuple[str, ...] = ()
    pickles: str = ""
    torchvision: str = ""
    pictures: tuple[str, ...] = ()
    size: int = 224
    resize: int = 256
    source: str = "npz"
    many: bool = False
    obtain: str = ""


@dataclass(frozen=True)
class Location:
    """The source that reads the data set, and its arguments."""

    source: str
    arguments: dict[str, Any]


DIGITS = tuple("0123456789")
sets: dict[str, Named] = {
    "mnist": Named(
        "MNIST",
        Preprocessing((0.1307,), (0.3081,)),
        DIGITS,
        ("mnist.npz",),
        (".", "mnist", "MNIST/raw"),
        torchvision="MNIST",
    ),
    "fashion-mnist": Named(
        "Fashion-MNIST",
        Preprocessing((0.2860,), (0.3530,)),
        FASHION,
        ("fashion_mnist.npz", "fashion-mnist.npz"),
        ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
        torchvision="FashionMNIST",
    ),
    "cifar10": Named(
        "CIFAR-10",
        CIFAR10_VALUES,
        CIFAR10,
        ("cifar10.npz", "cifar10_jpeg.npz"),
        pickles="cifar-10-batches-py",
        torchvision="CIFAR10",
    ),
    "cifar100": Named(
        "CIFAR-100",
        CIFAR100_VALUES,
        archives=("cifar100.npz",),
        pickles="cifar-100-python",
        torchvision="CIFAR100",
    ),
    "tiny-imagenet": Named(
        "Tiny-ImageNet",
        TINY_VALUES,
        archives=("tiny_imagenet*.npz",),
        pictures=("tiny-imagenet-200", "tiny-imagenet"),
        size=64,
        resize=64,
    ),
    "mitbih": Named(
        "MIT-BIH arrhythmia",
        Preprocessing(),
        archives=("mitbih_arrhythmia.npz",),
        source="mitbih",
        obtain="The records are on PhysioNet (mitdb 1.0.0, ODC-BY); docs/biosignals.md describes how to pack them",
    ),
    "deap": Named(
        "DEAP",
        Preprocessing(),
        archives=tuple(f"{folder}s[0-3][0-9].dat" for folder in ("deap/", "data_preprocessed_python/", "")),
        source="deap",
        many=True,
        obtain="DEAP is given to researchers who sign its agreement (https://www.eecs.qmul.ac.uk/mmv/datasets/deap/); "
        "needed are s01.dat to s32.dat of data_preprocessed_python.zip",
    ),
    "eeg-eye-state": Named(
        "EEG Eye State",
        Preprocessing(),
        archives=("eeg_eye_state.npz",),
        source="eye-state",
        obtain="It is in the UCI repository (EEG Eye State); docs/biosignals.md describes how to pack it",
    ),
    "imagenet": Named("ImageNet", IMAGENET_VALUES, pictures=("imagenet", "ILSVRC2012", ".")),
}


def directory(data_dir: str | Path | None) -> Path:
    """The argument, else TRANSPIKE_DATA, else a folder in the user's cache."""
    given = data_dir or os.environ.get("TRANSPIKE_DATA")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "transpike" / "data"


def locate(name: str, data_dir: str | Path | None, options: dict[str, Any]) -> Location:
    """Find the data set ``name``; raises DataError with the searched paths and how to change them."""
    known, root = sets[name], directory(data_dir)
    common = {"name": name, "preprocessing": known.preprocessing, "note": known.title}
    for pattern in known.archives:
        files = sorted(root.glob(pattern))
        if files and known.source != "npz":
            place: dict[str, Any] = {"paths": files} if known.many else {"path": files[0]}
            return Location(known.source, {**place, **options})
        if files:
            if pattern == "cifar10_jpeg.npz":
                common |= {"note": f"{known.title} (JPEG copy)", "preprocessing": JPEG_VALUES}
            return Location("npz", {"paths": files, "classes": known.classes, **common, **options})
    for folder in known.index_files:
        found = [next((p for p in (root / folder / n, root / folder / f"{n}.gz") if p.is_file()), None) for n in IDX]
        if all(found):
            return Location("idx", {"files": tuple(found), "classes": known.classes, **common, **options})
    for folder in known.pictures:
        if (root / folder / "train").is_dir() or (root / folder / "val").is_dir():
            sizes = {"size": known.size, "resize": known.resize}
            if "size" in options:
                sizes.pop("resize")
            return Location("imagefolder", {"directory": root / folder, **sizes, **common, **options})
    at_hand = bool(known.pickles) and (root / known.pickles).is_dir()
    if known.torchvision and (at_hand or importlib.util.find_spec("torchvision") is not None):
        arguments = {"kind": known.torchvision, "root": root, "download": not at_hand, "classes": known.classes or ()}
        return Location("torchvision-sets", {**arguments, **common, **options})
    looked = [*known.archives, *(f"{f}/{IDX[0]}[.gz] …" for f in known.index_files), known.pickles]
    looked += [f"{f}/train, {f}/val" for f in known.pictures]
    download = f". {known.obtain}" if known.obtain else ""
    download = "; with torchvision installed it would be downloaded" if known.torchvision else download
    raise DataError(
        f"{known.title} is not in {root}. Looked for: {', '.join(filter(None, looked))}{download}. Set TRANSPIKE_DATA "
        "or --data-dir (data_dir=) to the directory that contains it"
    )
