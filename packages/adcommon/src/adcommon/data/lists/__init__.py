"""Lists of images: the authors' manifests, CSV files, drawn references."""
