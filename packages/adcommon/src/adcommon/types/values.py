"""Numbers that have a range, as types: fields of recipes, settings and files; `io.schema` checks them.

A range is what could ever make sense, not what works well. Floats without a range need only be finite.
"""

from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""How many; 0 where that switches something off."""
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""How many, at least one."""
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
"""Of random numbers: NumPy takes no other."""
Side = Annotated[int, Meta(ge=1, le=8192)]
"""Pixels of a side of a network's input."""
Width = Annotated[int, Meta(ge=1, le=2**16)]
"""Numbers in a layer of a network."""
Depth = Annotated[int, Meta(ge=1, le=1000)]
"""Layers of a network."""
Share = Annotated[float, Meta(ge=0, le=1)]
"""Of a whole."""
ShareBelowOne = Annotated[float, Meta(ge=0, lt=1)]
"""Of a whole, and never all of it: dropout, decays of moments, images kept out of training."""
Rate = Annotated[float, Meta(gt=0, lt=1)]
"""Of false alarms: neither never nor always."""
NotNegative = Annotated[float, Meta(ge=0, le=1e9)]
"""A learning rate, a weight, a factor."""
AboveZero = Annotated[float, Meta(gt=0, le=1e9)]
"""The same where zero makes no sense: epsilons, deviations, temperatures."""
