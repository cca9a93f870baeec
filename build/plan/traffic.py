"""What the GPUs of one copy tell each other for every token, and how long that takes."""

from dataclasses import dataclass

from build.plan.layout import Layout, Load
from build.plan.machines import Machines
from build.plan.memory import width_of

LINK_SHARE = 0.7  # of a link's peak that collectives reach
HOP_S = {False: 10e-6, True: 30e-6}  # a collective's own time: inside a machine, over the network


@dataclass(frozen=True)
class Traffic:
    """Bytes that one GPU of the longest stage sends for one token, and the messages of one step."""

    all_reduce: float
    all_to_all: float
    point_to_point: float  # to the next pipeline stage
    collectives: int  # in one step
    network: bool  # tensor and expert parallelism leave the machine
    stages_network: bool  # pipeline stages are on several machines

    @property
    def collective(self) -> float:
        """Bytes that wait for the link between tensor-parallel GPUs."""
        return self.all_reduce + self.all_to_all


def traffic_of(load: Load, layout: Layout, machines: Machines) -> Traffic:
    """The traffic of a layout.

    With attention by tensor every layer is summed twice over the group, experts or not: each GPU adds what its share
    of the experts gave. With attention by data a token travels to its experts and back, in FP8 there if that is what
    they multiply in; layers without experts gather and scatter.
    """
    shapes, tensor, width = load.shapes, layout.tensor, width_of(load)
    vector = shapes.hidden * width
    layers = max(len(stage) for stage in load.stages(layout))
    sparse = shapes.experts.layers * layers / shapes.layers if shapes.experts else 0.0
    ring = 2 * (tensor - 1) / tensor
    all_reduce = all_to_all = 0.0
    if layout.attention_dp and shapes.experts:
        there = shapes.hidden * (1 if load.scheme.compute == "fp8" else width)
        all_to_all = sparse * shapes.experts.chosen * (there + vector) * (layout.expert - 1) / layout.expert
        all_reduce = (layers - sparse) * vector * ring * tensor
    else:
        all_reduce = 2 * layers * vector * ring
    return Traffic(
        all_reduce=all_reduce,
        all_to_all=all_to_all,
        # The hidden state and the residual stream.
        point_to_point=2.0 * vector if layout.pipeline > 1 else 0.0,
        collectives=2 * layers if tensor > 1 else 0,
        network=tensor > machines.per_node,
        stages_network=layout.pipeline > 1 and layout.gpus > machines.per_node,
    )


def seconds(traffic: Traffic, tokens: float, machines: Machines, nic_gbps: float) -> float:
    """How long a stage waits for its links in one step of that many tokens a GPU, nothing overlapped."""
    inside, outside = machines.gpu.link * 1e9 * LINK_SHARE, nic_gbps / 8 * 1e9 * LINK_SHARE
    group = outside if traffic.network else inside
    stages = outside if traffic.stages_network else inside
    waiting = traffic.collectives * HOP_S[traffic.network] + (HOP_S[True] if traffic.point_to_point else 0.0)
    return waiting + tokens * (traffic.collective / group + traffic.point_to_point / stages)
