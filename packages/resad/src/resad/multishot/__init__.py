"""The extension: several numbers of references, tables, charts, and references chosen by likeness."""
