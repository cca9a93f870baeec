"""Parts of messages in OpenAI's API that are no text, by the member that has them, and why none is read."""

TEXT_ONLY = "the models here read and write text only"
_PARTS = frozenset({"audio", "file", "file_data", "file_id", "image", "image_url", "input_audio", "video_url"})


def why_refused(field: str) -> str:
    """The reason, or '' for a field that nobody knows."""
    return TEXT_ONLY if field in _PARTS else ""
