"""Rows, tables, pages, pictures and cards: what people read."""
