// Vercel's AI SDK over its provider of OpenAI-compatible servers: a structure, a stream, a tool loop of three turns.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [origin, model] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "conch", baseURL: `${origin}/v1`, includeUsage: true, supportsStructuredOutputs: true,
});

if (model === "scripted") {
  const call = (city) => `<tool_call>{"name": "weather", "arguments": {"city": "${city}"}}</tool_call>`;
  const heard = [];
  const asked = {
    model: provider(model),
    maxRetries: 0,
    stopWhen: stepCountIs(5),
    prompt: `[[${call("Lisbon")}|${call("Porto")}|Sunny in both.]]`,
    tools: {
      weather: tool({
        description: "The weather in a city",
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => { heard.push(city); return { sunny: true }; },
      }),
    },
  };
  assert.equal((await generateText(asked)).text, "Sunny in both.");
  const streamed = streamText(asked);
  for await (const _ of streamed.textStream);
  assert.equal(await streamed.text, "Sunny in both.");
  assert.deepEqual(heard, ["Lisbon", "Porto", "Lisbon", "Porto"]);
} else {
  const { output } = await generateText({
    model: provider(model),
    maxRetries: 0,
    maxOutputTokens: 80,
    output: Output.object({ schema: z.object({ city: z.enum(["Paris", "Rome"]) }) }),
    prompt: "Where is the Eiffel tower?",
  });
  assert.equal(typeof output.city, "string");
  const streamed = streamText({ model: provider(model), maxRetries: 0, maxOutputTokens: 20, prompt: "Name a sea god." });
  let text = "";
  for await (const delta of streamed.textStream) text += delta;
  assert.equal(text, await streamed.text);
  assert.equal((await streamed.usage).outputTokens > 0, true);
}
