/**
 * Real llama.cpp reads a GGUF file in a process of its own: `node read.mjs FILE < job.json > answer.json`. What is asked and
 * answered is in `llama-cpp.ts`. Not a test: it knows nothing of what is right.
 */
import { readFileSync } from 'node:fs';

// By a variable: the project's own checks know nothing of this package.
const library = 'node-llama-cpp';
const { getLlama, LlamaLogLevel } = /** @type {import('./node-llama-cpp-types.ts').NodeLlamaCpp} */ (await import(library));
const { texts, prompt, count } = /** @type {import('./node-llama-cpp-types.ts').Job} */ (JSON.parse(readFileSync(0, 'utf8')));

const llama = await getLlama({ gpu: false, maxThreads: 1, build: 'never', skipDownload: true, progressLogs: false, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: process.argv[2] ?? '' });
// Keys and values would be f16 otherwise.
const context = await model.createContext({
  contextSize: prompt.length + count,
  batchSize: prompt.length + count,
  // More would wait for each other, at the cost of whatever else runs.
  threads: 1,
  flashAttention: false,
  experimentalKvCacheKeyType: 'F32',
  experimentalKvCacheValueType: 'F32',
});
/** @type {number[]} */
const continuation = [];
for await (const token of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
  continuation.push(token);
  if (continuation.length === count) break;
}
process.stdout.write(
  JSON.stringify({
    ids: texts.map((text) => model.tokenize(text, false)),
    decoded: texts.map((text) => model.detokenize(model.tokenize(text, false))),
    endOfText: model.tokens.eos,
    continuation,
  }),
);
process.exit(0);
