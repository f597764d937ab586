/**
 * How fast an adapter is with our kernels, as one number: the fp32 product that FACTS states its figures for. Beside
 * tokens per second it says how much of a difference is the adapter's. Not here: other shapes (test/bench/kernels.ts).
 */
import { Graph, openEngine, parameterLayout } from '../../../src/engine/index.ts';
import { matmulNN } from '../../../src/engine/ops/matmul.ts';
import { median } from '../benchmark.ts';

export interface AdapterRate {
  readonly adapter: string;
  readonly gigaflops: number;
}

export const productShape = { m: 1024, n: 384, k: 128 } as const;

const samples = 5;
const minSampleMs = 200;

/** GFLOP/s of C = A·B at `productShape`: median, submits included. */
export async function matmulRate(gpu: GPU): Promise<number> {
  const engine = await openEngine(gpu);
  const { m, n, k } = productShape;
  const graph = new Graph({ differentiates: false });
  const factors = [graph.input('a', [m, k], 'f32'), graph.input('b', [k, n], 'f32')];
  const [product] = graph.apply(matmulNN, factors, {});
  if (product === undefined) throw new Error('a product has no result');
  const program = await engine.compile(graph, {
    parameters: engine.allocate('none', 64),
    layout: parameterLayout([]),
    outputs: new Map([['product', product]]),
  });
  program.setInput('a', Float32Array.from({ length: m * k }, (_, index) => Math.sin(index)));
  program.setInput('b', Float32Array.from({ length: k * n }, (_, index) => Math.cos(index)));
  const msOf = async (runs: number): Promise<number> => {
    const startedMs = performance.now();
    for (let run = 0; run < runs; run++) program.run();
    await engine.device.queue.onSubmittedWorkDone();
    return performance.now() - startedMs;
  };
  await msOf(1); // Software adapters compile on first use.
  const runs = Math.ceil(minSampleMs / (await msOf(1)));
  const rates: number[] = [];
  for (let sample = 0; sample < samples; sample++) rates.push((2 * m * n * k * runs) / (await msOf(runs)) / 1e6);
  engine.destroy();
  return median(rates);
}
