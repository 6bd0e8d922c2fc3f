"""A folder whose new images are scored once each, written down and sorted."""
