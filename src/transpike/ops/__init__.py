"""Layers without memory, one file for each kind. ``table`` maps an operator of torch.export to its class."""

from transpike.core.op import Op
from transpike.core.registry import family
from transpike.core.renamed import old_names
from transpike.ops.add import Add
from transpike.ops.analogue import AnalogueOp
from transpike.ops.average import AvgPool, Mean
from transpike.ops.batchnorm import BatchNorm
from transpike.ops.cat import Cat
from transpike.ops.conv import Conv
from transpike.ops.dropout import Dropout
from transpike.ops.embedding import Embedding
from transpike.ops.linear import Linear
from transpike.ops.mask import Mask
from transpike.ops.masked_softmax import MaskedSoftmax
from transpike.ops.maxpool import AdaptiveMaxPool, MaxPool
from transpike.ops.normalise import Normalise
from transpike.ops.pack import Pack
from transpike.ops.pick import Pick
from transpike.ops.product import Product
from transpike.ops.resample import Resample
from transpike.ops.scale import Scale
from transpike.ops.shape import Identity, Nearest, Pad, Permute, Reshape, Slice

members: tuple[type[Op], ...] = family("op", Op, in_files=True, named=False).own(globals())
__getattr__ = old_names(__name__)
