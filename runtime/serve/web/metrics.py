"""What a server has done, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ...system.memory import peak_bytes, resident_bytes
from ..desk import Desk, Ended, Ticket
from ..embedder import Rows
from ..served import Models
from ..usage import counts_of

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PREFIX = "handglass_"


class Metrics:
    """One registry per server. Counters are updated as answers end, gauges when they are read."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        model = ["model"]

        def counter(name: str, text: str, labels: list[str] = model) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(PREFIX + name, text, model, registry=registry, buckets=SECONDS)

        self.requests = counter("requests", "Requests by path and status.", ["path", "status"])
        self.answers = counter("answers", "Answers by how they ended.", ["model", "ended"])
        self.stalled = counter(
            "stalled", "Connections that were closed because their client stopped reading.", []
        )
        self.tokens = counter("tokens", "Tokens by kind.", ["model", "kind"])
        self.pictures = counter(
            "pictures", "Pictures by where their rows came from.", ["model", "rows"]
        )
        self.queue = seconds("queue_seconds", "Seconds that answers waited for their turn.")
        self.first = seconds("first_token_seconds", "Seconds from the request to the first token.")
        self.encode = seconds(
            "encode_seconds", "Seconds in which pictures of an answer were encoded."
        )
        self.prefill = seconds("prefill_seconds", "Seconds in which prompts were computed.")
        self.decode = seconds(
            "decode_seconds", "Seconds in which the tokens of an answer were computed."
        )
        self.gauges = {
            name: Gauge(PREFIX + name, text, registry=registry) for name, text in GAUGES.items()
        }

    def ended(self, ticket: Ticket, ended: Ended) -> None:
        """Count an answer; called in the thread of the desk."""
        name = ticket.ready.served.name
        self.queue.labels(name).observe(ticket.waited_s or 0.0)
        answer = ended.answer
        if answer is None:
            how = "error" if ended.error is not None else "cancelled"
            self.answers.labels(name, how).inc()
            return
        if isinstance(answer, Rows):
            self.answers.labels(name, "stop").inc()
            self.tokens.labels(name, "prompt").inc(answer.tokens)
            return
        self.answers.labels(name, answer.finish_reason).inc()
        counts, timings = counts_of(answer), answer.timings
        kinds = {"prompt": counts.prompt, "cached": counts.cached, "completion": counts.completion}
        for kind, count in {**kinds, "picture": counts.pictures}.items():
            self.tokens.labels(name, kind).inc(count)
        new = sum(ms > 0 for ms in timings.encode_ms)
        self.pictures.labels(name, "encoded").inc(new)
        self.pictures.labels(name, "reused").inc(len(timings.encode_ms) - new)
        self.first.labels(name).observe(timings.ttft_ms / 1e3)
        self.encode.labels(name).observe(sum(timings.encode_ms) / 1e3)
        self.prefill.labels(name).observe(_over(timings.prefill_tokens, timings.prefill_tok_s))
        self.decode.labels(name).observe(_over(timings.decode_tokens, timings.decode_tok_s))

    def text(self, models: Models, desk: Desk) -> bytes:
        served = list(models)
        values = {
            "queue_length": desk.waiting,
            "answering": desk.is_busy,
            "conversations": sum(len(one.model.conversations) for one in served),
            "cached_positions": sum(sum(one.model.conversations.held) for one in served),
            "encoded_tile_bytes": sum(one.model.encoded.nbytes for one in served),
            "prepared_picture_bytes": sum(one.pictures.nbytes for one in served),
            "resident_bytes": resident_bytes(),
            "peak_resident_bytes": peak_bytes(),
        }
        for name, value in values.items():
            self.gauges[name].set(value)
        return generate_latest(self.registry)


GAUGES = {
    "queue_length": "Answers that wait for their turn.",
    "answering": "Whether an answer is being generated or waits.",
    "conversations": "Conversations with a cache of their own.",
    "cached_positions": "Positions that the caches of all conversations hold.",
    "encoded_tile_bytes": "Bytes of encoded tiles that are kept.",
    "prepared_picture_bytes": "Bytes of cut pictures that are kept.",
    "resident_bytes": "Resident memory of the process, mapped files included.",
    "peak_resident_bytes": "Its peak.",
}


def _over(count: int, per_second: float) -> float:
    return count / per_second if per_second else 0.0
