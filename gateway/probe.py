"""What a chat template makes of a conversation, asked before there is one."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_LATE = "a system message that stands late"


def rendered(chat_template: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any]) -> str | None:
    """The prompt that a template makes, ready for an answer; None where it refuses."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    given = {**variables, "messages": messages, "add_generation_prompt": True}
    try:
        return environment.from_string(_GENERATION.sub("", chat_template)).render(**given)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None


@functools.lru_cache(maxsize=64)
def takes_late_system(chat_template: str) -> bool:
    """True where a system message may follow one of the user."""
    if not chat_template:
        return True
    late = [{"role": "user", "content": "?"}, {"role": "system", "content": _LATE}]
    return _LATE in (rendered(chat_template, late, {}) or "")
