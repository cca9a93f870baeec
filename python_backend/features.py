"""What engines declare that requests may ask for, in the names of ``contract.sampling``: what several have in common.

A request that asks for anything else is refused by name before prefill; docs/engines.md is made from the declarations.
"""

CHOOSING = frozenset({"temperature", "top_k", "top_p"})
MIN_P = frozenset({"min_p"})
ENDING = frozenset({"ignore_eos", "stop_token_ids"})
PENALTIES = frozenset({"repetition_penalty", "presence_penalty", "frequency_penalty"})
LOG_PROBS = frozenset({"return_log_probs", "logprobs"})
SCORING = frozenset({"prompt_logprobs"})
RESUMING = frozenset({"resumed_ids"})
USUAL = CHOOSING | ENDING | PENALTIES | {"min_tokens", "seed"}
