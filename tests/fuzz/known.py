"""What the wheel's Triton cannot take, as docs/serving.md lists it: closed by the filter before its ports."""

import re

from tests.fuzz.case import Case, Door

FILTERED = True  # whether that filter is there


def closed_by_the_filter(case: Case) -> str:
    """Why a case needs the filter; '' when it does not."""
    if case.door not in (Door.HTTP, Door.GRPC):
        return ""
    whole = b"".join(case.parts)
    head = whole.lower()[:20_000]
    if b"classification" in whole:
        return "classification of a text output"
    if any(name.lower() == "triton_grpc_error" for name, _ in case.metadata):
        return "errors as gRPC statuses"
    if case.door is Door.HTTP and not case.method:
        if len(re.findall(rb"[\[{]", whole)) > 1000:
            return "JSON nested deep"
        if b"transfer-encoding" in head and whole.count(b"\r\n") > 10_000:
            return "too many chunks"
        if b"content-encoding" in head:
            return "a packed body"
    return ""


def is_open(case: Case) -> bool:
    """Whether a case would end the server that is tested here."""
    return not FILTERED and bool(closed_by_the_filter(case))
