"""The version of the package, below everything that names it.

It comes from the tags of the repository: the build writes it into the metadata of the installed package.
"""

import importlib.metadata

try:
    __version__ = importlib.metadata.version("transpike")
except importlib.metadata.PackageNotFoundError:  # sources that nobody has installed, on the path of Python
    __version__ = "0+unknown"
