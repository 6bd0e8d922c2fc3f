"""Networks that come trained, what is kept of their features, and how a model is stored."""
