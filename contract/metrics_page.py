"""What a metrics page in Prometheus' text format says: Triton's own, an engine's, the gateway's."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(page: str) -> Iterator[Sample]:
    """A page's samples by the names that they have there: the parser adds ``_total`` to a counter without it.

    Raises:
        ValueError: the page is in no such format.
    """
    for family in text_string_to_metric_families(page.replace(" counter\n", " untyped\n")):
        yield from family.samples
