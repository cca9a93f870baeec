"""LlamaIndex's Triton client, whole and streamed: arguments ADDRESS PROMPT; what it heard, as JSON."""

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.nvidia_triton import NvidiaTriton

if __name__ == "__main__":
    llm = NvidiaTriton(server_url=sys.argv[1], model="ensemble", tokens=40)
    heard = {
        "complete": llm.complete(sys.argv[2]).text,
        "stream_complete": [each.delta for each in llm.stream_complete(sys.argv[2])],
        "chat": llm.chat([ChatMessage(role="user", content=sys.argv[2])]).message.content,
    }
    print(json.dumps(heard))
