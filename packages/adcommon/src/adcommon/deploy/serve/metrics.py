"""What is counted of a server, in the form of Prometheus. Labels are names of models and fixed words only."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        """All at zero; memory and CPU time of the process are among them."""
        own = self._registry = CollectorRegistry()
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)
        self.responses = Counter("ad_responses", "Answers by status code.", ["code"], registry=own)
        self.images = Counter("ad_images", "Images by decision.", ["model", "decision"], registry=own)
        self.refused = Counter("ad_busy", "Requests that found the queue full.", ["model"], registry=own)
        self.seconds = Histogram(
            "ad_request_seconds",
            "From the head of an accepted request to its answer.",
            ["model"],
            buckets=_SECONDS,
            registry=own,
        )
        self.waiting = Gauge("ad_waiting_images", "Accepted and not answered yet.", ["model"], registry=own)
        self.loaded = Gauge("ad_model_loaded_timestamp_seconds", "When it was.", ["model"], registry=own)
        self.stale = Gauge(
            "ad_model_stale",
            "1: what lies at the model's path is not what is served.",
            ["model"],
            registry=own,
        )

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)
