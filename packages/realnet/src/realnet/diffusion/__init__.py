"""The diffusion model that draws near-normal images (SDAS): network, classifier, process, sampling."""
