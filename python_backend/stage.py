"""What the three stages share: the proof that they run where they should, and how they fail."""

import json
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

from contract.errors import InternalError, RequestError
from contract.unary import PARAMETER

if TYPE_CHECKING:
    from contract.stage import StageConfig

P = ParamSpec("P")
T = TypeVar("T")


def read_config(args: dict[str, str]) -> "StageConfig":
    """The stage's configuration from what Triton hands to ``initialize``; checks the environment too."""
    from contract.stage import StageConfig  # brings pydantic, which a unary model does without

    config = StageConfig.from_json(told(args))
    check_environment(config.python_prefix)
    return config


def told(args: dict[str, str]) -> str:
    """Our parameter of the model's config.pbtxt."""
    return str(json.loads(args["model_config"])["parameters"][PARAMETER]["string_value"])


def check_environment(meant: str) -> None:
    """Refuse to run in another Python than the one meant, or under a numpy that this stub misreads.

    Triton's stub takes the first python3 on PATH, and the wheel's stub reads tensors as garbage under
    numpy 2 without any error: so read one back.
    """
    if sys.prefix != meant:
        raise pb_utils.TritonModelException(
            f"this stage runs in {sys.prefix}, not in {meant}: put its bin first on PATH (make serve does)"
        )
    sent = np.arange(4, dtype=np.int32)
    if not np.array_equal(pb_utils.Tensor("probe", sent).as_numpy(), sent):
        raise pb_utils.TritonModelException(
            f"this Triton's Python stub cannot read tensors of numpy {np.__version__}: install numpy<2"
        )


def error_response(error: RequestError) -> Any:
    """One of our errors as an InferenceResponse."""
    code = getattr(pb_utils.TritonError, error.codes.triton)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_wire(), code))


def guarded(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | RequestError:
    """The result of ``work``, or the error a user may see; a traceback goes to the log only."""
    try:
        return work(*args, **kwargs)
    except RequestError as error:
        return error
    except Exception:
        pb_utils.Logger.log_error(traceback.format_exc())
        return InternalError("the server failed on this request", fix="Its log says why")
