"""What one room starts of another: the arrows that imports do not show, each by the name that a user would give it."""

Program = tuple[str, str]

BUILD: Program = ("-m", "build")
REPOSITORY: Program = ("-m", "build.repository")
REFERENCE: Program = ("-m", "build.reference")
LAID_OVER: Program = ("-m", "build.laid_over")
SERVING: Program = ("-m", "serving")
FILTER: Program = ("-m", "serving.filter")
FOLLOW: Program = ("-m", "serving.follow")
GATEWAY: Program = ("-m", "gateway")
RELEASE: Program = ("-m", "release")
WORKER: Program = ("-m", "python_backend.worker")
RAW: Program = ("-m", "python_backend.raw")
RAW_OPENVINO: Program = ("-m", "python_backend.openvino.raw")
RAW_VLLM: Program = ("-m", "python_backend.vllm.raw")

# What a stage's model.py imports.
PREPROCESS = "python_backend.preprocess.model"
ENGINE = "python_backend.engine_model"
POSTPROCESS = "python_backend.postprocess.model"
UNARY = "python_backend.unary_model"
