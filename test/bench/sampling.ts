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

/** Of one token. CPU time is what a software adapter takes, whatever else runs on the machine. */
interface Cost {
  readonly ms: number;
  readonly cpuMs: number;
}

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
    const [prompt, token] = await cached(length, tokens);
    const plain = await withoutCache(engine, model, weights, length, tokens);
    const perSecond = ({ ms }: Cost): string => (1000 / ms).toFixed(1);
    const cpu = ({ cpuMs }: Cost): string => cpuMs.toFixed(1);
    rows.push([String(length), perSecond(plain), perSecond(token), cpu(plain), cpu(token), (plain.cpuMs / token.cpuMs).toFixed(1), cpu(prompt)]);
  }
  const { name } = engine.profile;
  engine.destroy();
  return [
    {
      title: `Tokens a second of ${model.num_hidden_layers} layers, ${model.hidden_size} wide`,
      notes: [`${name}; medians of ${tokens} tokens, one read of the logits each`],
      columns: ['after tokens', 'without cache', 'with', 'CPU ms without', 'with', 'times', 'prompt'],
      rows,
    },
  ];
}

async function withCache(engine: Engine, model: DecoderConfig, weights: FlatMemory, contextLength: number) {
  const turn = () => Promise.resolve(() => undefined);
  const open = () => Decoding.open({ engine, model, layout: parameterLayoutOf(model), weights, contextLength, revision: () => 0, turn });
  return async (length: number, tokens: number): Promise<readonly [prompt: Cost, token: Cost]> => {
    const decoding = await open();
    const ids = idsOf(length);
    // The first time compiles; a new start forgets the cache.
    for (const start of [0, 1, 0]) await decoding.logitsAfter(ids.slice(0, length - 1 + start), start);
    await decoding.logitsAfter([...ids, 1], 1);
    const prompt = await measured(() => decoding.logitsAfter(ids, 0));
    const costs: Cost[] = [];
    for (let token = 0; token < tokens; token++) {
      ids.push(token);
      costs.push(await measured(() => decoding.logitsAfter(ids, 0)));
    }
    await decoding.close();
    return [prompt, medianOf(costs)];
  };
}

async function withoutCache(engine: Engine, model: DecoderConfig, weights: FlatMemory, length: number, tokens: number): Promise<Cost> {
  const { graph, logits } = logitsGraph(model, 1, length);
  const program = await engine.compile(graph, { parameters: weights, layout: parameterLayoutOf(model), outputs: new Map([['logits', logits]]) });
  program.setInput('ids', Uint32Array.from(idsOf(length)));
  program.setInput('position', Uint32Array.of(length - 1));
  const costs: Cost[] = [];
  for (let token = -1; token < tokens; token++) {
    const cost = await measured(() => {
      program.run();
      return program.readOutput('logits');
    });
    if (token >= 0) costs.push(cost);
  }
  program.release();
  return medianOf(costs);
}

async function measured(work: () => Promise<unknown>): Promise<Cost> {
  const [startedMs, startedCpu] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(startedCpu);
  return { ms: performance.now() - startedMs, cpuMs: (user + system) / 1000 };
}

function medianOf(costs: readonly Cost[]): Cost {
  return { ms: median(costs.map(({ ms }) => ms)), cpuMs: median(costs.map(({ cpuMs }) => cpuMs)) };
}

function idsOf(length: number): number[] {
  return Array.from({ length }, (_, index) => (index * 7) % 96);
}
