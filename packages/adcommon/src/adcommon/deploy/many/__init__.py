"""Millions of images, scored by the workers of a Ray cluster; needs the extra `adcommon[ray]`."""
