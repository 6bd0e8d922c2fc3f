"""What passes between the rooms: records, predictions; no logic."""
