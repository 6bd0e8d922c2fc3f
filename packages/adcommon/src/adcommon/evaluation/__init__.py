"""From a detector and labelled images to numbers, pictures and a decision threshold."""
