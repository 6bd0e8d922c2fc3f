"""Networks that come trained, what is kept of their features, and how a model is stored; all in torch."""

from adcommon.errors import require

require("train", "torch")
