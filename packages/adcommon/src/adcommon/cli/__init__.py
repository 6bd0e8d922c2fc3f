"""The command `ad`, and what every method's commands are made of."""
