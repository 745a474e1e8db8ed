"""What the service does, as figures that Prometheus reads."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from bespoke.serving.jobs import Held

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
MOST_VALUES = 64
"""So many values of a label are told apart; what comes later is `other`, so that no caller can make figures grow."""
OTHER = "other"


class Metrics:
    """Counters and gauges in a registry of their own, so that two services in a process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._values: dict[str, set[str]] = {}
        about = ("route", "method", "status")
        self._requests = Counter("bespoke_http_requests", "Requests that were answered.", about, registry=registry)
        self._latency = Histogram(
            "bespoke_http_request_seconds", "From a request to the end of its answer.", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self._errors = Counter(
            "bespoke_errors", "Requests that were refused or failed, by code.", ("code",), registry=registry
        )
        self._pictures = Counter("bespoke_pictures", "Pictures that were drawn.", ("model",), registry=registry)
        self._failures = Counter(
            "bespoke_failed_pictures", "Pictures that failed, by code.", ("code",), registry=registry
        )
        self._queue = Gauge("bespoke_queued_pictures", "Pictures that wait now.", registry=registry)
        self._drawing = Gauge("bespoke_drawing_pictures", "Pictures that are being drawn now.", registry=registry)
        self._up = Gauge("bespoke_workers", "Workers that can draw.", registry=registry)
        self._sizes = Histogram(
            "bespoke_batch_pictures", "Pictures that were drawn at once.", buckets=SIZES, registry=registry
        )
        self._batches = Histogram("bespoke_batch_seconds", "How long a batch took.", buckets=SECONDS, registry=registry)
        self._steps = Counter("bespoke_steps", "Steps that workers made, one for each batch.", registry=registry)
        self._restarts = Counter("bespoke_worker_restarts", "Workers that were lost.", registry=registry)
        self._models = Gauge("bespoke_models_loaded", "Models in a worker's memory.", ("worker",), registry=registry)
        self._adapters = Gauge(
            "bespoke_adapters_loaded", "Adapters in a worker's memory.", ("worker",), registry=registry
        )
        self._memory = Gauge(
            "bespoke_worker_memory_bytes", "Memory that a worker takes.", ("worker",), registry=registry
        )

    def answered(self, route: str, method: str, status: int, seconds: float, code: str = "") -> None:
        """A request was answered; `route` is the pattern of its path, `code` why it was refused or failed."""
        self._requests.labels(self._known("route", route), self._known("method", method), str(status)).inc()
        self._latency.labels(self._known("route", route)).observe(seconds)
        if code:
            self._errors.labels(self._known("code", code)).inc()

    def queued(self, waiting: int, drawn: int) -> None:
        """So many pictures wait now, and so many are being drawn."""
        self._queue.set(waiting)
        self._drawing.set(drawn)

    def batch(self, size: int, seconds: float) -> None:
        """A batch of so many pictures was drawn."""
        self._sizes.observe(size)
        self._batches.observe(seconds)

    def stepped(self) -> None:
        """A worker made a step of a batch."""
        self._steps.inc()

    def drawn(self, model: str) -> None:
        """The version with that title drew a picture."""
        self._pictures.labels(self._known("model", model)).inc()

    def failed(self, code: str) -> None:
        """A picture failed, for a reason of `jobs.FAILURES`."""
        self._failures.labels(self._known("code", code)).inc()

    def restarted(self) -> None:
        """A worker was lost."""
        self._restarts.inc()

    def workers(self, up: int) -> None:
        """So many workers can draw."""
        self._up.set(up)

    def held(self, worker: int, held: Held) -> None:
        """What the worker of that number has in memory."""
        name = self._known("worker", str(worker))
        self._models.labels(name).set(held.models)
        self._adapters.labels(name).set(held.adapters)
        self._memory.labels(name).set(held.size)

    def text(self) -> bytes:
        """All figures in Prometheus' own form (`text/plain; version=0.0.4`)."""
        return generate_latest(self.registry)

    def _known(self, label: str, value: str) -> str:
        values = self._values.setdefault(label, set())
        if value not in values and len(values) >= MOST_VALUES:
            return OTHER
        values.add(value)
        return value
