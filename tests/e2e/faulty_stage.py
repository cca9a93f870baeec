"""The engine's stage, where an exclamation mark has no text: a fault of ours in the middle of an answer."""

import python_backend.engine_model
from contract.wire import EngineDelta
from python_backend.postprocess.answer import Answer, Piece

_push = Answer.push


def push(self: Answer, delta: EngineDelta) -> Piece:
    if ord("!") in delta.ids:
        raise ZeroDivisionError
    return _push(self, delta)


Answer.push = push  # type: ignore[method-assign]
TritonPythonModel = python_backend.engine_model.TritonPythonModel
