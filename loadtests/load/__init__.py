"""Load tests of streaming LLM servers on Locust: any server that speaks OpenAI's API or Triton's."""
