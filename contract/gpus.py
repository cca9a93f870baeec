"""GPUs by name: what an engine for one of them can compute with, and how much fits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One model of GPU; its speeds are the vendor's peaks, of dense matrices."""

    sm: int  # compute capability × 10
    memory_gib: int  # as nvidia-smi counts it, rounded down
    bandwidth: int  # GB/s of its memory
    bf16: int  # TFLOPS
    int8: int  # TOPS
    fp8: int = 0  # TFLOPS; 0: the GPU has none
    fp4: int = 0
    link: int = 32  # GB/s one way to another GPU of its machine: NVLink where nvlink says so, else PCIe ×16
    nvlink: bool = False


GPUS = {
    "a10": Gpu(86, 22, 600, 125, 250),  # NVIDIA A10 datasheet
    "a30": Gpu(80, 24, 933, 165, 330),  # NVIDIA A30 datasheet; its NVLink bridge joins two cards only
    "a100-40gb": Gpu(80, 40, 1555, 312, 624, link=300, nvlink=True),  # NVIDIA A100 datasheet, SXM
    "a100": Gpu(80, 80, 2039, 312, 624, link=300, nvlink=True),  # NVIDIA A100 datasheet, 80 GB SXM
    "a800": Gpu(80, 80, 2039, 312, 624, link=200, nvlink=True),  # an A100 with two thirds of its NVLink
    "l4": Gpu(89, 22, 300, 121, 242, 242),  # NVIDIA L4 datasheet, which gives twice these for sparse matrices
    "l40s": Gpu(89, 44, 864, 362, 733, 733),  # NVIDIA L40S datasheet
    "rtx-4090": Gpu(89, 23, 1008, 165, 660, 330),  # NVIDIA Ada whitepaper, accumulating in FP32
    "h20": Gpu(90, 95, 4000, 148, 296, 296, link=450, nvlink=True),  # as vendors list it: NVIDIA publishes no datasheet
    "h100": Gpu(90, 79, 3350, 989, 1979, 1979, link=450, nvlink=True),  # NVIDIA H100 datasheet, SXM, half of the sparse
    "h800": Gpu(90, 79, 3350, 989, 1979, 1979, link=200, nvlink=True),  # an H100 with less NVLink, as vendors list it
    "h200": Gpu(90, 139, 4800, 989, 1979, 1979, link=450, nvlink=True),  # NVIDIA H200 datasheet, SXM, as the H100
    "gh200": Gpu(90, 94, 4000, 989, 1979, 1979),  # NVIDIA GH200 datasheet, 96 GB of HBM3; alone in its machine
    "b200": Gpu(100, 178, 7700, 2250, 4500, 4500, 9000, link=900, nvlink=True),  # NVIDIA HGX B200 datasheet, an eighth
    "rtx-5090": Gpu(120, 31, 1792, 209, 838, 419, 1676, link=64),  # NVIDIA RTX Blackwell whitepaper, FP32 accumulation
    "rtx-pro-6000": Gpu(120, 95, 1792, 503, 1007, 1007, 2015, link=64),  # NVIDIA RTX PRO Blackwell whitepaper
}
USABLE = 0.9  # of a GPU's memory, for weights, cache and activations; the rest is CUDA's and NCCL's own

# The oldest compute capability that has a precision, of weights or of the KV cache.
MIN_SM = {
    "fp8": (89, "Ada, Hopper or Blackwell"),
    "fp8_rowwise": (89, "Ada, Hopper or Blackwell"),
    "fp8_block": (90, "Hopper or Blackwell"),
    "w4a8_awq": (89, "Ada, Hopper or Blackwell"),
    "nvfp4": (100, "Blackwell"),
}
OLDEST_SM = 80  # what TensorRT-LLM 1.2 runs on at all
