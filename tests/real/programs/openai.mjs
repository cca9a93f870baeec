// OpenAI's client in JavaScript: a second turn after parse(), a tool loop that it runs itself, and a stream.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [origin, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${origin}/v1`, maxRetries: 0 });
const format = zodResponseFormat(z.object({ city: z.enum(["Paris", "Rome"]), country: z.enum(["France", "Italy"]) }), "place");

const messages = [{ role: "user", content: "Where is the Eiffel tower?" }];
const asked = { model, messages, response_format: format, max_tokens: 60 };
const first = await client.chat.completions.parse(asked);
assert.equal(typeof first.choices[0].message.parsed.city, "string");
messages.push(first.choices[0].message, { role: "user", content: "And the Colosseum?" });
const second = await client.chat.completions.parse(asked);
assert.equal(typeof second.choices[0].message.parsed.country, "string");
console.log("second turn after parse");

const heard = [];
const runner = client.chat.completions.runTools({
  model,
  messages: [{ role: "user", content: "What is the weather in Lisbon?" }],
  max_tokens: 60,
  tool_choice: { type: "function", function: { name: "weather" } },
  tools: [{
    type: "function",
    function: {
      name: "weather",
      parameters: { type: "object", properties: { city: { enum: ["Lisbon"] } }, required: ["city"] },
      parse: JSON.parse,
      function: ({ city }) => { heard.push(city); return "sunny"; },
    },
  }],
});
await runner.done();
assert.deepEqual(heard, ["Lisbon"]);
console.log("tool");

let text = "";
const stream = client.chat.completions.stream({ model, messages, max_tokens: 20 });
stream.on("content", (delta) => { text += delta; });
assert.equal((await stream.finalChatCompletion()).choices[0].message.content, text);
console.log("stream");
