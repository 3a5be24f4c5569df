"""Ways to hold weights on few bits."""

from transpike.weights.uniform import uniform

members = (uniform,)
