"""A server for models: images over HTTP in, decisions out; needs the extra `adcommon[serve]`."""
