"""What the columns of a table are called, and what they mean."""

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "aupro": "AUPRO",
    "aupro_05": "AUPRO@5%",
}
"""Metrics every row has, and their headings; all are fractions in [0, 1], higher is better."""
_FURTHER = {
    "detection_rate": "detected",
    "false_alarm_rate": "false alarms",
    "spro": "AU-sPRO",
    "spro_structural": "AU-sPRO structural",
    "spro_logical": "AU-sPRO logical",
}
"""Headings of what some rows have; a paper's own values keep their names."""

INTERVAL = "95 % interval"
"""Heading of that of the image AUROC."""

MEANINGS = {
    "image AUROC": "Of all pairs of an anomalous and a normal test image, the share in which the anomalous "
    "one scores higher. 100 is perfect, 50 is chance. Needs no threshold.",
    INTERVAL: "Where the image AUROC lies with other test images of the same kind, 95 times of 100 "
    "(bootstrap). It says nothing of another training.",
    "image AP": "Average precision: how pure the images with the highest scores are, from the first to the "
    "last anomalous one. Chance is the share of anomalous images.",
    "image F1-max": "The best balance of precision and recall that any threshold reaches; it is chosen with "
    "the labels, so one gets less in use.",
    "pixel AUROC": "As the image AUROC, of all pixels of all test images. Close to 100 is usual, as most "
    "pixels are normal and easy.",
    "pixel AP": "Average precision of all pixels: how well the outline of defects is met.",
    "pixel F1-max": "As the image F1-max, of all pixels.",
    "AUPRO": "How much of each defect, large or small, is covered, while at most 30 % of the normal pixels "
    "are marked.",
    "AUPRO@5%": "The same while at most 5 % of the normal pixels are marked.",
    "detected": "Anomalous test images that score above the threshold, which comes from normal images alone.",
    "false alarms": "Normal test images that score above the threshold.",
    "AU-sPRO": "As the AUPRO@5%, for defects that need not be covered whole; the mean of the two kinds.",
    "AU-sPRO structural": "Of scratches, dents and stains.",
    "AU-sPRO logical": "Of what is missing, too much, or in the wrong place.",
    "paper": "The number that the paper's authors published, for the column before it.",
    "ms per image": "Milliseconds to decode and score an image, on the machine of the comparison.",
    "model, MB": "Size of the model's folder.",
    "training, min": "Minutes of the training command, reading and report included.",
    "runs": "Trainings that the mean and the deviation are of.",
}
"""Of headings, in a sentence or two."""


def heading(name: str) -> str:
    """What a column of values is called.

    >>> heading("image_f1max"), heading("image_accuracy")
    ('image F1-max', 'image_accuracy')
    """
    return METRICS.get(name) or _FURTHER.get(name, name)
