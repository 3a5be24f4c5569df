"""Ways to hold weights on few bits."""

from transpike.weights.logarithmic import LogarithmicWeights, logarithmic
from transpike.weights.uniform import uniform

members = (logarithmic, uniform)
