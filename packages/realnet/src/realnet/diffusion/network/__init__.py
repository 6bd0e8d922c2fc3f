"""The denoising network and the classifier that guides it."""
