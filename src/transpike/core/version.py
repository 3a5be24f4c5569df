"""``__version__``, below everything that names it: that of the installed package.

The build takes it from the tags of the repository and writes it into the metadata of the package. It is read when it is
first asked for, because the module that reads it takes a fifth of the time in which the command line answers --help.
"""

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    import importlib.metadata

    try:
        found = importlib.metadata.version("transpike")
    except importlib.metadata.PackageNotFoundError:  # sources on the path of Python that nobody has installed
        found = "0+unknown"
    return globals().setdefault(name, found)
