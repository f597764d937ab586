/** Decoding with a cache of keys and values: its ops against f64, and whole models' logits against those computed without it. */
import { afterAll, describe, expect, test } from 'vitest';
import { elementCount, EngineError, Graph, interpret, parameterLayout } from '../../src/engine/index.ts';
import type { Engine, Shape } from '../../src/engine/index.ts';
import { cacheWrite, cachedAttention } from '../../src/engine/ops/cached-attention.ts';
import { logitsGraph } from '../../src/model/decoder.ts';
import { initialWeights } from '../../src/model/initial.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import type { DecoderConfig } from '../../src/model/types.ts';
import { Decoding, cacheCapacity } from '../../src/trainer/decoding.ts';
import { windowStart } from '../../src/trainer/sampling.ts';
import { randomIntegers, randomValues, relativeError } from './check-op.ts';
import { freshEngine } from './harness.ts';

const engine = await freshEngine();
afterAll(() => {
  engine.destroy();
});

interface Case {
  readonly rows: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  readonly capacity: number;
  readonly first: number;
  readonly count: number;
}

describe.each<Case>([
  { rows: 1, heads: 1, keyHeads: 1, headSize: 4, capacity: 1, first: 0, count: 1 },
  { rows: 1, heads: 6, keyHeads: 2, headSize: 8, capacity: 13, first: 7, count: 1 },
  { rows: 5, heads: 3, keyHeads: 3, headSize: 20, capacity: 90, first: 71, count: 3 },
  { rows: 16, heads: 4, keyHeads: 2, headSize: 12, capacity: 150, first: 0, count: 16 },
  { rows: 7, heads: 4, keyHeads: 1, headSize: 96, capacity: 200, first: 130, count: 7 },
  { rows: 2, heads: 2, keyHeads: 1, headSize: 256, capacity: 70, first: 64, count: 2 },
  // Rows that would lie past the end are left out.
  { rows: 8, heads: 2, keyHeads: 2, headSize: 8, capacity: 10, first: 6, count: 8 },
])('$rows rows ($count count) at $first of $capacity, $heads heads on $keyHeads of $headSize', (size) => {
  const { rows, heads, keyHeads, headSize, capacity, first, count } = size;
  const cacheShape = [capacity, keyHeads, headSize];
  const inputs: Record<string, Shape> = { q: [1, rows, heads, headSize], k: [1, rows, keyHeads, headSize], v: [1, rows, keyHeads, headSize] };

  test('the cache and attention over it agree with f64', async () => {
    const graph = new Graph({ differentiates: false });
    const [q, k, v] = Object.entries(inputs).map(([name, shape]) => graph.input(name, shape, 'f32'));
    if (!q || !k || !v) throw new Error('three inputs are declared');
    const span = graph.input('span', [2], 'u32');
    const cache = cacheWrite(graph, { keys: graph.state('keys', cacheShape), values: graph.state('values', cacheShape) }, k, v, span);
    const o = cachedAttention(graph, q, cache, span);

    const states = new Map(['keys', 'values'].map((name, seed) => [name, randomValues(elementCount(cacheShape), 90 + seed).map(Math.fround)]));
    const given = new Map(Object.entries(inputs).map(([name, shape], seed) => [name, randomValues(elementCount(shape), seed).map(Math.fround)]));
    const oracle = interpret(graph, { parameters: new Map(), inputs: new Map([...given, ['span', Float64Array.of(first, count)]]), states });

    const regions = new Map([...states].map(([name, values]) => {
      const region = engine.allocate(name, values.length);
      engine.write(region, Float32Array.from(values));
      return [name, region];
    }));
    const program = await engine.compile(graph, {
      parameters: engine.allocate('none', 64),
      layout: parameterLayout([]),
      states: regions,
      outputs: new Map([['o', o]]),
    });
    for (const [name, values] of given) program.setInput(name, Float32Array.from(values));
    program.setInput('span', Uint32Array.of(first, count));
    program.run();
    expect(relativeError(await program.readOutput('o'), oracle.values(o))).toBeLessThan(2e-6);
    for (const [name, tensor] of [['keys', cache.keys], ['values', cache.values]] as const) {
      const region = regions.get(name);
      if (!region) throw new Error('it is allocated');
      expect(new Float32Array(await engine.read(region)), name).toEqual(Float32Array.from(oracle.values(tensor)));
    }
    program.release();
    engine.release(...regions.values());
  });
});

test('what a state was before it was overwritten can’t be read any more', () => {
  const graph = new Graph({ differentiates: false });
  const before = { keys: graph.state('keys', [4, 1, 4]), values: graph.state('values', [4, 1, 4]) };
  const [rows, span] = [graph.input('rows', [1, 1, 1, 4], 'f32'), graph.input('span', [2], 'u32')];
  cacheWrite(graph, before, rows, rows, span);
  expect(() => cachedAttention(graph, rows, before, span)).toThrow(EngineError);
  expect(() => cacheWrite(graph, { keys: rows, values: rows }, rows, rows, span)).toThrow(EngineError);
});

const small: DecoderConfig = {
  model_type: 'llama',
  vocab_size: 37,
  hidden_size: 24,
  intermediate_size: 44,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
  initializer_range: 0.3,
  dropout: 0,
};

interface ModelCase {
  readonly config: DecoderConfig;
  readonly contextLength: number;
  readonly promptLength: number;
  readonly tokens: number;
}

function decodingOf(onEngine: Engine, { config, contextLength }: ModelCase, weights = weightsOn(onEngine, config, 5), revision = () => 0) {
  return Decoding.open({ engine: onEngine, model: config, layout: parameterLayoutOf(config), weights, contextLength, revision, turn: () => Promise.resolve(() => undefined) });
}

function weightsOn(onEngine: Engine, config: DecoderConfig, seed: number) {
  const weights = onEngine.allocateFlat('weights', parameterLayoutOf(config));
  onEngine.write(weights, initialWeights(config, seed));
  return weights;
}

/** One program for all windows up to `length`: what pads their ends is invisible to what comes before. */
async function withoutCache(config: DecoderConfig, weights: ReturnType<typeof weightsOn>, length: number) {
  const { graph, logits } = logitsGraph(config, 1, length);
  const program = await engine.compile(graph, { parameters: weights, layout: parameterLayoutOf(config), outputs: new Map([['logits', logits]]) });
  return (window: readonly number[]): Promise<Float32Array> => {
    const ids = new Uint32Array(length);
    ids.set(window);
    program.setInput('ids', ids);
    program.setInput('position', Uint32Array.of(window.length - 1));
    program.run();
    return program.readOutput('logits');
  };
}

describe.each<[string, ModelCase]>([
  ['llama', { config: small, contextLength: 40, promptLength: 3, tokens: 20 }],
  ['qwen3, tied, one key head', { config: { ...small, model_type: 'qwen3', num_key_value_heads: 1, head_dim: 20, tie_word_embeddings: true, }, contextLength: 30, promptLength: 29, tokens: 8 }],
  ['llama past its context', { config: { ...small, hidden_size: 20, head_dim: 12, vocab_size: 11 }, contextLength: 13, promptLength: 30, tokens: 17 }],
  ['qwen3, a prompt of two long chunks', { config: { ...small, model_type: 'qwen3', num_hidden_layers: 1 }, contextLength: 200, promptLength: 197, tokens: 5 }],
])('%s', (_name, model) => {
  test('logits with and without cache are equal', async () => {
    const { config, contextLength, promptLength, tokens } = model;
    const weights = weightsOn(engine, config, 5);
    const decoding = await decodingOf(engine, model, weights);
    const plainLogits = await withoutCache(config, weights, contextLength);
    const ids = [...randomIntegers(promptLength + tokens, config.vocab_size, tokens)];
    for (let count = promptLength; count < ids.length; count++) {
      const start = windowStart(count, contextLength);
      const cached = await decoding.logitsAfter(ids.slice(0, count), start);
      const plain = await plainLogits(ids.slice(start, count));
      const worst = plain.reduce((most, logit, id) => Math.max(most, Math.abs(logit - (cached[id] ?? Number.NaN))), 0);
      expect(worst, `${count} tokens, seen from ${start} on`).toBeLessThan(1e-4);
    }
    await decoding.close();
  });
});

const plainCase = { config: small, contextLength: 40, promptLength: 3, tokens: 20 };

test('every position runs the same pipelines', async () => {
  const decoding = await decodingOf(engine, plainCase);
  const ids = [1, 2, 3];
  await decoding.logitsAfter(ids, 0);
  await decoding.logitsAfter([...ids, 4], 0);
  const before = engine.counters.pipelinesCreated;
  for (let next = 5; next < 30; next++) {
    ids.push(next);
    await decoding.logitsAfter([...ids, 4], 0);
  }
  expect(engine.counters.pipelinesCreated).toBe(before);
  await decoding.close();
});

test('a reply’s memory is given back', async () => {
  const weights = weightsOn(engine, small, 5);
  const reply = async (): Promise<number> => {
    const decoding = await decodingOf(engine, plainCase, weights);
    await decoding.logitsAfter([1, 2, 3], 0);
    await decoding.logitsAfter([1, 2, 3, 4], 0);
    const during = engine.counters.bufferBytes;
    await decoding.close();
    return during;
  };
  await reply();
  const before = engine.counters.bufferBytes;
  expect(await reply()).toBeGreaterThan(before);
  expect(engine.counters.bufferBytes).toBe(before);
});

test('where weights change under a reply its cache is made anew, soon for a short one', async () => {
  const weights = weightsOn(engine, small, 5);
  let revision = 0;
  const decoding = await decodingOf(engine, plainCase, weights, () => revision);
  const ids = [...randomIntegers(12, small.vocab_size, 3)];
  await decoding.logitsAfter(ids.slice(0, 10), 0);
  engine.write(weights, initialWeights(small, 6));
  revision++;
  const cached = await decoding.logitsAfter(ids.slice(0, 11), 0);
  const plain = await (await withoutCache(small, weights, 11))(ids.slice(0, 11));
  expect(relativeError(cached, plain)).toBeLessThan(1e-5);
  await decoding.close();
});

test('a cache is no longer than a binding can be', () => {
  const profile = { ...engine.profile, maxStorageBufferBindingBytes: 4 * 16 * 20 + 60 };
  expect(cacheCapacity({ engine: { ...engine, profile }, model: small, contextLength: 40 })).toBe(20);
});
