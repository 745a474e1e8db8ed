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
        self._sizes = Histogram(
            "bespoke_batch_pictures", "Pictures that were drawn at once.", buckets=SIZES, registry=registry
        )
        self._batches = Histogram("bespoke_batch_seconds", "How long a batch took.", buckets=SECONDS, registry=registry)
        self._steps = Counter("bespoke_steps", "Steps that workers made, one for each batch.", registry=registry)
        self._restarts = Counter("bespoke_worker_restarts", "Workers that were started anew.", registry=registry)
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

    def queued(self, pictures: int) -> None:
        """So many pictures wait now."""
        self._queue.set(pictures)

    def batch(self, pictures: int, seconds: float) -> None:
        """A batch of so many pictures was drawn."""
        self._sizes.observe(pictures)
        self._batches.observe(seconds)

    def stepped(self, steps: int = 1) -> None:
        """A worker made so many steps of a batch."""
        self._steps.inc(steps)

    def drawn(self, model: str, pictures: int = 1) -> None:
        """Pictures were drawn by the version with that title."""
        self._pictures.labels(self._known("model", model)).inc(pictures)

    def failed(self, code: str, pictures: int = 1) -> None:
        """Pictures failed, for a reason of `jobs.FAILURES`."""
        self._failures.labels(self._known("code", code)).inc(pictures)

    def restarted(self) -> None:
        """A worker was started anew."""
        self._restarts.inc()

    def held(self, worker: str, *, models: int = 0, adapters: int = 0, memory: int = 0) -> None:
        """What a worker has in memory now; `memory` in bytes."""
        name = self._known("worker", worker)
        self._models.labels(name).set(models)
        self._adapters.labels(name).set(adapters)
        self._memory.labels(name).set(memory)

    def text(self) -> bytes:
        """All figures in Prometheus' own form (`text/plain; version=0.0.4`)."""
        return generate_latest(self.registry)

    def _known(self, label: str, value: str) -> str:
        values = self._values.setdefault(label, set())
        if value not in values and len(values) >= MOST_VALUES:
            return OTHER
        values.add(value)
        return value
