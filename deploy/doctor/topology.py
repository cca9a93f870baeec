"""How the GPUs of a node reach each other and the network cards, from ``nvidia-smi topo -m``."""

import re
from dataclasses import dataclass

from deploy.doctor.case import Case, Said
from deploy.doctor.result import Result

TOPOLOGY = ("nvidia-smi", "topo", "-m")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_LEGEND = re.compile(r"\s*(NIC\d+):\s*(\S+)")
_NEAR = ("PIX", "PXB")  # a path over PCIe switches alone, which GPUDirect RDMA can use at full speed


@dataclass(frozen=True)
class Topology:
    """Paths between devices, as nvidia-smi names them: NV18, PIX, NODE, SYS, …"""

    paths: dict[tuple[str, str], str]
    gpus: tuple[str, ...]
    cards: dict[str, str]  # RDMA devices by the name that the matrix gives them


def parse(text: str) -> Topology:
    """The answer to :data:`TOPOLOGY`."""
    lines = _ESCAPES.sub("", text).splitlines()
    at = next((number for number, line in enumerate(lines) if line.split()[:1] == ["GPU0"]), len(lines))
    header, rows = "".join(lines[at : at + 1]).split(), lines[at + 1 :]
    names = [name for name in header if re.fullmatch(r"GPU\d+|NIC\d+|mlx\d_\S+", name)]
    paths: dict[tuple[str, str], str] = {}
    for row in rows:
        first, *cells = row.split() or [""]
        if first in names:
            paths |= {(first, name): cell for name, cell in zip(names, cells, strict=False)}
    cards = {name: name for name in names if not name.startswith(("GPU", "NIC"))}
    cards |= {found[1]: found[2] for row in rows if (found := _LEGEND.fullmatch(row))}
    return Topology(paths, tuple(name for name in names if name.startswith("GPU")), cards)


def check(case: Case, answer: Said) -> Result:
    """The worst path between two GPUs, and which GPUs have a network card near."""
    if answer.error:
        return Result("topology", "warn" if case.several_gpus and not answer.absent else "skipped", answer.error)
    found = parse(answer.text)
    pairs = {(a, b): found.paths.get((a, b), "") for a in found.gpus for b in found.gpus if a < b}
    if not pairs:
        return Result("topology", "skipped", f"{len(found.gpus)} GPU: nothing to connect")
    kinds = sorted(set(pairs.values()))
    seen = f"{len(found.gpus)} GPUs, {' and '.join(kinds)} between them{_cards(found)}"
    same = {"GPU paths": " and ".join(kinds)}
    linked = [path for path in pairs.values() if path.startswith("NV")]
    if not linked:
        todo = "no NVLink: tensor parallelism goes over PCIe. Prefer engine.parallel.pipeline, or fewer GPUs"
        return Result("topology", "warn", seen, todo if case.several_gpus else "", same)
    if len(linked) < len(pairs):
        odd = ", ".join(f"{a}–{b} {path}" for (a, b), path in pairs.items() if not path.startswith("NV"))
        todo = f"without NVLink: {odd}. Put a tensor-parallel group on GPUs that have it (CUDA_VISIBLE_DEVICES)"
        return Result("topology", "warn", seen, todo, same)
    if len(kinds) > 1:
        return Result(
            "topology", "warn", seen, "fewer links between some: nvidia-smi nvlink -s shows which are down", same
        )
    return Result("topology", "ok", seen, "", same)


def _cards(found: Topology) -> str:
    if not found.cards:
        return ""
    far = [
        gpu for gpu in found.gpus if not any(found.paths.get((gpu, card), "").startswith(_NEAR) for card in found.cards)
    ]
    near = "each has a network card on its PCIe switch"
    return f"; {near}" if not far else f"; no network card on the PCIe switch of {', '.join(far)}"
