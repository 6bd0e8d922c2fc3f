"""Synthetic anomalies: noise, textures and near-normal images blended into normal ones."""
