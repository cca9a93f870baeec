"""The text side of one stream: deltas of ids go in, pieces of the answer come out. Knows nothing of Triton."""

from dataclasses import dataclass, field

from contract.tensors import FinishReason
from contract.wire import EngineDelta, Opening, TopLogprob
from python_backend.postprocess.detokenize import Detokenizer, Vocabulary
from python_backend.postprocess.reasoning import after_reasoning
from python_backend.postprocess.stop import StopMatcher
from python_backend.postprocess.timings import Timings


@dataclass(slots=True)
class Piece:
    """What one response tells the client."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    top_log_probs: list[list[TopLogprob]] = field(default_factory=list)
    finish: str = ""
    matched_stop: str = ""  # the stop string that ended the answer

    def extend(self, other: "Piece") -> None:
        """Append a later piece."""
        self.text += other.text
        self.ids += other.ids
        self.log_probs += other.log_probs
        self.top_log_probs += other.top_log_probs
        self.finish = other.finish
        self.matched_stop = other.matched_stop


class Answer:
    """One stream, from its opening to its finish."""

    def __init__(self, vocabulary: Vocabulary, opening: Opening) -> None:
        self.opening = opening
        self.num_output_tokens = 0
        self.cum_log_prob = 0.0
        self.cached_tokens: int | None = None
        self.prompt_log_probs: list[float] = []
        self.prompt_top_log_probs: list[list[TopLogprob]] = []
        self.timings = Timings.of(opening)
        self._delivery = opening.delivery
        self._detokenizer = Detokenizer(vocabulary, opening.delivery.skip_special_tokens)
        self.prompt = self._detokenizer.push(opening.prompt_ids) if opening.prompt_ids else ""
        stop = StopMatcher(opening.delivery.stop, opening.delivery.include_stop)
        self._stop = after_reasoning(stop, opening.delivery.reasoning_tags)
        self._resumed = list(opening.resumed_ids)  # until the first delta
        self._had = opening.delivery.resumed_chars  # of the text to come, what the client has

    def push(self, delta: EngineDelta) -> Piece:
        """What this delta settles. A found stop string sets ``finish`` though the engine runs on."""
        if delta.cached_tokens is not None:
            self.cached_tokens = min(delta.cached_tokens, self.opening.num_input_tokens)
        if self.timings:
            self.timings.take(delta)
        self.prompt_log_probs += delta.prompt_log_probs
        self.prompt_top_log_probs += delta.prompt_top_log_probs
        piece = self._resume(delta) if self._resumed else self._settled(delta)
        known = min(self._had, len(piece.text))
        piece.text, self._had = piece.text[known:], self._had - known
        return piece

    def _resume(self, delta: EngineDelta) -> Piece:
        """The first delta, behind what the answer has already."""
        resumed, self._resumed = self._resumed, []
        piece = self._settled(EngineDelta(delta.key, resumed))
        piece.ids = []
        if not piece.finish:
            piece.extend(self._settled(delta))
        return piece

    def _settled(self, delta: EngineDelta) -> Piece:
        if self._delivery.stop:
            return self._push_to_stop(delta)
        text = self._detokenizer.push(self._spoken(delta))
        piece = Piece(text, delta.ids, delta.log_probs, delta.top_log_probs, delta.finish)
        if delta.finish:
            piece.text += self._detokenizer.flush()
        self._count(piece)
        return piece

    def _spoken(self, delta: EngineDelta) -> list[int]:
        """The ids that have text: not the one that ended the answer (the model's own is silent anyway)."""
        ended = delta.finish == FinishReason.STOP and delta.ids and delta.ids[-1] in self.opening.ends
        return delta.ids[:-1] if ended and not self._delivery.include_stop else delta.ids

    def _push_to_stop(self, delta: EngineDelta) -> Piece:
        """Token by token, so that the token that completes a stop string is the last one counted."""
        piece = Piece(finish=delta.finish)
        for taken, token in enumerate(self._spoken(delta), start=1):
            text, stopped = self._stop.push(self._detokenizer.push([token]))
            piece.text += text
            if stopped:
                return self._ended_by_stop(piece, delta, taken, stopped)
        if delta.finish:
            text, stopped = self._stop.push(self._detokenizer.flush())
            piece.text += text
            if stopped:
                return self._ended_by_stop(piece, delta, len(delta.ids), stopped)
            piece.text += self._stop.flush()
        self._take(piece, delta, len(delta.ids))
        return piece

    def _ended_by_stop(self, piece: Piece, delta: EngineDelta, taken: int, stop: str) -> Piece:
        self._take(piece, delta, taken)
        piece.finish, piece.matched_stop = FinishReason.STOP, stop
        return piece

    def _take(self, piece: Piece, delta: EngineDelta, taken: int) -> None:
        piece.ids = delta.ids[:taken]
        piece.log_probs = delta.log_probs[:taken]
        piece.top_log_probs = delta.top_log_probs[:taken]
        self._count(piece)

    def _count(self, piece: Piece) -> None:
        self.num_output_tokens += len(piece.ids)
        self.cum_log_prob += sum(piece.log_probs)
