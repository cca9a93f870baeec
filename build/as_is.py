"""Hugging Face checkpoint → an engine that is the checkpoint: vLLM, SGLang and LMDeploy load it as it is."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from build.adapters import adapter_fault, adapters_key, place_adapters
from build.drafts import draft_fault, draft_key, place_draft
from build.replay import Replay, Script, replay_by_prefixes
from build.tokenizer import load_fast_tokenizer
from contract import programs
from contract.checkout import ROOT
from contract.engines.kinds import KINDS, Runtime
from contract.engines.sglang.ktransformers import check_model
from contract.errors import BuildError
from contract.manifest import this_machine
from contract.spec import Deployment


@dataclass(frozen=True)
class AsIs:
    """The builder of one of these runtimes."""

    runtime: Runtime
    PACKAGES: ClassVar[tuple[str, ...]] = ()  # the engine's bytes are the checkpoint's
    RECIPE: ClassVar[int] = 1  # raised whenever build() changes what it writes
    SIZE: ClassVar[int] = 0  # links

    @property
    def python(self) -> Path:
        """Where the engine is installed; this environment where it has none of its own (a container's image)."""
        own = ROOT / f".venv-{self.runtime}" / "bin" / "python"
        return own if own.exists() else Path(sys.executable)

    def key(self, spec: Deployment) -> tuple[Any, ...]:
        """An engine is verified on the machine that runs it, under the options that it is served with."""
        machine, engine = this_machine(), spec.engine
        beside: Any = {"lora": True, "speculative": {"model"}}  # whose files count, and not where they lie
        options = engine.options.model_dump(exclude=beside) if engine.options else {}
        return machine.arch, machine.instruction_sets, options, *adapters_key(engine.lora), *draft_key(engine)

    def check(self, checkpoint: Path, spec: Deployment) -> None:
        """Refuse to begin where nothing could verify the engine.

        Raises:
            BuildError: the engine is not installed, or is another release, or cannot use an adapter
                or a draft model.
            SpecError: the model has no experts that a CPU could compute.
        """
        if fault := adapter_fault(spec.engine.lora, f"engine.{self.runtime}.lora") or draft_fault(spec.engine):
            raise BuildError(fault)
        if kt := spec.engine.sglang.kt:
            check_model(kt, json.loads((checkpoint / "config.json").read_text(encoding="utf-8")))
        kind, name, fix = spec.engine.kind, spec.engine.kind.title, f"Run make {self.runtime} first"
        if not self.python.exists():
            raise BuildError(f"no {name} at {self.python}", fix=fix)
        if wanted := kind.version:
            found = self._installed()
            if not found:
                raise BuildError(f"no {name} in {self.python}", fix=fix)
            if found != wanted:
                raise BuildError(f"{name} {found} is in {self.python}, and {name} {wanted} is wanted", fix=fix)

    def command(self, checkpoint: Path, spec: Deployment, folder: Path) -> list[str]:
        """Nothing: there is nothing to compile."""
        return []

    def built_with(self, folder: Path) -> dict[str, str]:
        """Nothing made it: it is the checkpoint."""
        return {}

    def target(self, folder: Path, spec: Deployment) -> None:
        """None: a checkpoint fits any GPU that has the room."""

    def build(self, checkpoint: Path, spec: Deployment, folder: Path) -> None:
        """Link to the checkpoint's files where they are; those of a conversion are shared, not copied.

        Raises:
            BuildError: the tokenizer is no fast one, which the stages need.
        """
        for file in sorted(checkpoint.iterdir()):
            if file.is_symlink():
                (folder / file.name).symlink_to(file.resolve())
            else:
                os.link(file, folder / file.name)
        place_adapters(spec.engine.lora, folder)
        place_draft(spec.engine, folder)
        if not (folder / "tokenizer.json").exists():
            load_fast_tokenizer(checkpoint).backend_tokenizer.save(str(folder / "tokenizer.json"))

    def replay(self, config: Path, spec: Deployment, engine: Path, script: Script) -> Replay:
        """What the very engine that will serve says along the script; every prefix is a request of its own.

        Raises:
            BuildError: it does not run the engine.
        """
        told = spec.model_dump(mode="json", exclude_unset=True)

        def ask(prompts: list[tuple[list[int], int]]) -> list[list[int]]:
            (answer,) = self._ask(programs.RAW, engine, {"spec": told, "prompts": prompts})
            ids: list[list[int]] = answer["ids"]
            return ids

        return replay_by_prefixes(script, ask)

    def _installed(self) -> str:
        """The release that is installed; '' where none is."""
        about = f"from importlib.metadata import version; print(version('{self.runtime}'))"
        run = subprocess.run([self.python, "-c", about], capture_output=True, text=True, check=False)
        return run.stdout.strip()

    def _ask(self, program: programs.Program, engine: Path, *questions: dict[str, Any]) -> list[dict[str, Any]]:
        """Questions to the engine, in its own environment.

        Raises:
            BuildError: it does not run the engine.
        """
        run = subprocess.run(
            [self.python, *program, str(engine)],
            input="".join(json.dumps(question) + "\n" for question in questions),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if run.returncode:
            lines = run.stderr.strip().splitlines()
            said = [line for line in lines if "rror" in line] or lines
            reason = said[-1] if said else f"exit status {run.returncode}"
            raise BuildError(f"{KINDS[self.runtime].title} does not run the engine: {reason}")
        return [json.loads(line) for line in run.stdout.splitlines()]
