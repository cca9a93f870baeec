"""Fields of OpenAI's API (and of other servers') that cannot be honoured here, each with the reason."""

_NO_STORE = "answers are not stored here; send the whole conversation"
_TEXT_ONLY = "the models here read and write text only"

REFUSED: dict[str, str] = {
    "audio": _TEXT_ONLY,
    "image": _TEXT_ONLY,
    "reasoning": "the model decides; chat_template_kwargs carries what its template knows",
    "image_url": _TEXT_ONLY,
    "input_audio": _TEXT_ONLY,
    "file": _TEXT_ONLY,
    "file_id": _TEXT_ONLY,
    "background": "a request runs while its connection is open",
    "background_options": "a request runs while its connection is open",
    "best_of": "is not supported; ask for n answers and choose among them",
    "context_management": "the context is never shortened here; shorten the input",
    "conversation": _NO_STORE,
    "function_call": "is deprecated; use tool_choice",
    "functions": "is deprecated; use tools",
    "length_penalty": "beam search is not supported",
    "max_tool_calls": "no tool runs here; the caller runs them all",
    "min_p": "is not supported; use top_p or top_k",
    "moderation": "there is no moderation here",
    "prediction": "predicted outputs are not supported",
    "previous_response_id": _NO_STORE,
    "prompt": "stored prompts are not supported; send instructions and input",
    "reasoning_effort": "the model decides; chat_template_kwargs carries what its template knows",
    "suffix": "text cannot be inserted before a suffix",
    "use_beam_search": "beam search is not supported",
    "verbosity": "is not supported; ask for it in the prompt",
    "web_search_options": "there is no web search here; offer it as a tool and run it",
}


def why_refused(field: str) -> str:
    """The reason, or '' for a field that nobody knows."""
    return REFUSED.get(field, "")
