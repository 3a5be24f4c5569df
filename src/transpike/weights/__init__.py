"""Weight codes with few bits."""

from transpike.weights.bipolar import bipolar_product, bits_of, from_bits
from transpike.weights.logarithmic import LogarithmicWeights, logarithmic
from transpike.weights.processing_element import ProcessingElement
from transpike.weights.uniform import uniform

members = (bits_of, logarithmic, uniform)
