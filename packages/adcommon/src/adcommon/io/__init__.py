"""Files: written whole or not at all, images, what is kept between runs, the model folder."""
