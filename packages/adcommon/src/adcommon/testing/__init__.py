"""What the tests of several packages share: small drawn datasets and the reader of golden files."""
