"""The deployment spec: one small YAML file, validated once, then frozen.

An unknown key is refused with its line and the nearest valid key; values that contradict each other
are refused with both their names.
"""

import difflib
from pathlib import Path
from typing import Self

import yaml
from pydantic import ValidationError, model_validator

from contract.cluster_rules import faults as cluster_faults
from contract.engines.trtllm.rules import faults as trtllm_faults
from contract.errors import SpecError
from contract.sections import Sections
from contract.spec_faults import duplicate_key, explain


class Deployment(Sections):
    """One YAML of configs/."""

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        for faults in (trtllm_faults, cluster_faults):
            if found := list(faults(self)):
                raise ValueError("\n".join(found))
        return self


def load_spec(path: Path) -> Deployment:
    """Read and validate a deployment spec.

    Raises:
        SpecError: one line a fault, each with file, line, key and the way out.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        others = sorted(str(found) for found in path.parent.glob("*.yaml"))
        near = difflib.get_close_matches(str(path), others, n=1)
        raise SpecError(f"no config {path}", fix=f"Did you mean {near[0]}?" if near else "CONFIG= names it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path} must be a mapping of keys to values")
    doubled = duplicate_key(tree)
    if doubled:
        raise SpecError(f"{path}:{doubled[1]}: {doubled[0]}: given twice")
    try:
        return Deployment.model_validate(data)
    except ValidationError as error:
        raise SpecError("\n".join(explain(path, tree, fault, Deployment) for fault in error.errors())) from None


def write_spec(path: Path, spec: Deployment) -> None:
    """A deployment as the YAML that :func:`load_spec` reads, of what its user set."""
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True), sort_keys=False))
