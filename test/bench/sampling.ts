/**
 * Tokens a second of the Moby-Dick preset's model, with the cache of keys and values and without it, as the text grows. Without, each
 * token takes a forward pass over a row of the next power of two, which is the least that a program for every length could do.
 */
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { modelSizes } from '../../src/data/presets.ts';
import { openEngine } from '../../src/engine/index.ts';
import type { Engine, FlatMemory } from '../../src/engine/index.ts';
import { logitsGraph } from '../../src/model/decoder.ts';
import { initialWeights } from '../../src/model/initial.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { Decoding } from '../../src/trainer/decoding.ts';
import { median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

/** Tokens that the next one is predicted from. */
const lengths = [16, 64, 128, 256, 512] as const;

export const options = { tokens: 12 };

export async function run({ tokens }: typeof options): Promise<readonly Table[]> {
  const engine = await openEngine(nodeGpu());
  const contextLength = Math.max(...lengths) + tokens + 1;
  const model: DecoderConfig = { ...modelSizes.small.model, vocab_size: 96, max_position_embeddings: contextLength };
  const weights = engine.allocateFlat('weights', parameterLayoutOf(model));
  engine.write(weights, initialWeights(model, 1));
  const cached = await withCache(engine, model, weights, contextLength);
  const rows: string[][] = [];
  for (const length of lengths) {
    const [firstMs, tokenMs] = await cached(length, tokens);
    const plainMs = await withoutCache(engine, model, weights, length, tokens);
    const perSecond = (ms: number): string => (1000 / ms).toFixed(1);
    rows.push([String(length), perSecond(plainMs), perSecond(tokenMs), (plainMs / tokenMs).toFixed(1), firstMs.toFixed(0)]);
  }
  const { name } = engine.profile;
  engine.destroy();
  return [
    {
      title: `Tokens a second of ${model.num_hidden_layers} layers, ${model.hidden_size} wide`,
      notes: [`${name}; medians of ${tokens} tokens, one read of the logits each`],
      columns: ['after tokens', 'without cache', 'with', 'times', 'prompt ms'],
      rows,
    },
  ];
}

async function withCache(engine: Engine, model: DecoderConfig, weights: FlatMemory, contextLength: number) {
  const turn = () => Promise.resolve(() => undefined);
  const open = () => Decoding.open({ engine, model, layout: parameterLayoutOf(model), weights, contextLength, revision: () => 0, turn });
  return async (length: number, tokens: number): Promise<readonly [promptMs: number, tokenMs: number]> => {
    const decoding = await open();
    const ids = idsOf(length);
    // The first time compiles; a new start forgets the cache.
    for (const start of [0, 1, 0]) await decoding.logitsAfter(ids.slice(0, length - 1 + start), start);
    await decoding.logitsAfter([...ids, 1], 1);
    const startedMs = performance.now();
    await decoding.logitsAfter(ids, 0);
    const promptMs = performance.now() - startedMs;
    const times: number[] = [];
    for (let token = 0; token < tokens; token++) {
      ids.push(token);
      times.push(await timed(() => decoding.logitsAfter(ids, 0)));
    }
    await decoding.close();
    return [promptMs, median(times)];
  };
}

async function withoutCache(engine: Engine, model: DecoderConfig, weights: FlatMemory, length: number, tokens: number): Promise<number> {
  const { graph, logits } = logitsGraph(model, 1, length);
  const program = await engine.compile(graph, { parameters: weights, layout: parameterLayoutOf(model), outputs: new Map([['logits', logits]]) });
  program.setInput('ids', Uint32Array.from(idsOf(length)));
  program.setInput('position', Uint32Array.of(length - 1));
  const times: number[] = [];
  for (let token = -1; token < tokens; token++) {
    const ms = await timed(() => {
      program.run();
      return program.readOutput('logits');
    });
    if (token >= 0) times.push(ms);
  }
  program.release();
  return median(times);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

function idsOf(length: number): number[] {
  return Array.from({ length }, (_, index) => (index * 7) % 96);
}
