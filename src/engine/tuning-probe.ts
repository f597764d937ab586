/**
 * Times variants of the matrix product on an adapter, at shapes that stand for their class, and checks a few results of each
 * against the exact ones. It runs on an engine of its own, which may be lost by it.
 */
import type { DirectDispatch, Engine, Region, Sequence } from './engine.ts';
import { EngineError } from './errors.ts';
import { sameForAll } from './matmul-variants.ts';
import type { MatmulVariant, ShapeClass } from './matmul-variants.ts';
import type { BindingRef, Lowering } from './op.ts';
import { lowerMatmul } from './ops/matmul-lowering.ts';
import type { MatmulForm, MatmulPlan } from './ops/matmul-lowering.ts';
import { regionOf } from './memory.ts';
import { directDispatch, uniformRegions } from './program.ts';
import type { MeasureVariant } from './tuning.ts';

interface ProbeShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly forms: readonly MatmulForm[];
}

/** A long context of a wide model, a micro-batch of the small presets, a token that is sampled. */
const probes: Readonly<Record<ShapeClass, ProbeShape>> = {
  large: { m: 2048, n: 2048, k: 256, forms: ['NT', 'NN', 'TN'] },
  small: { m: 512, n: 512, k: 512, forms: ['NT', 'NN', 'TN'] },
  skinny: { m: 4, n: 2048, k: 1024, forms: ['NT'] },
};

/** A sample lasts about this long, so that the clock's steps (0.1 ms in browsers) and a submit's cost don't count. */
const sampleMs = 8;
const maxRepeats = 64;
const samples = 2;
/** Elements of each result that are checked. */
const checkedElements = 16;

interface Operands {
  readonly a: Region;
  readonly b: Region;
  readonly c: Region;
}

/** Small whole numbers: every sum of their products is exact in f32, in whatever order it is formed. */
function wholeNumber(index: number): number {
  return (Math.imul(index, 0x9e3779b1) >>> 29) - 3;
}

/** The engine is the probe's: buffers stay until it is destroyed. Throws `EngineError` for variants that don't run on it. */
export function probeOf(engine: Engine): MeasureVariant {
  const operands = new Map<ShapeClass, Operands>();
  let partials: Region | null = null;

  const operandsOf = (shapeClass: ShapeClass): Operands => {
    const known = operands.get(shapeClass);
    if (known) return known;
    const { m, n, k } = probes[shapeClass];
    const [a, b, c] = [engine.allocate('probe a', m * k), engine.allocate('probe b', n * k), engine.allocate('probe c', m * n)];
    engine.write(a, Float32Array.from({ length: m * k }, (_, i) => wholeNumber(i)));
    engine.write(b, Float32Array.from({ length: n * k }, (_, i) => wholeNumber(i + 1)));
    operands.set(shapeClass, { a, b, c });
    return { a, b, c };
  };

  const dispatchesOf = ({ dispatches, scratchElements = [] }: Lowering, { a, b, c }: Operands): readonly DirectDispatch[] => {
    const [wanted = 0] = scratchElements;
    if (wanted > (partials?.lengthElements ?? 0)) partials = engine.allocate('probe partial sums', wanted);
    const locate = (ref: BindingRef): Region => {
      const region = ref.kind === 'scratch' ? partials : ref.kind === 'output' ? c : ref.index === 0 ? a : b;
      if (!region) throw new EngineError('a product without scratch memory binds some');
      return regionOf(region, ref.offsetElements, ref.lengthElements);
    };
    const uniforms = uniformRegions(engine, dispatches);
    return dispatches.map((dispatch) => directDispatch(dispatch, locate, uniforms));
  };

  const prepare = async (variant: MatmulVariant, shapeClass: ShapeClass, form: MatmulForm) => {
    const { m, n, k } = probes[shapeClass];
    const plan: MatmulPlan = {
      form,
      m,
      n,
      k,
      a: { ref: { kind: 'input', index: 0 }, dtype: 'f32', rowElements: form === 'TN' ? m : k },
      b: { ref: { kind: 'input', index: 1 }, dtype: 'f32', rowElements: form === 'NT' ? k : n },
      c: { ref: { kind: 'output', index: 0 }, dtype: 'f32', rowElements: n },
      accumulate: false,
    };
    const lowering = lowerMatmul(plan, { ...engine.profile, matmul: sameForAll(variant) });
    return { plan, sequence: await engine.sequence('probe', dispatchesOf(lowering, operandsOf(shapeClass))) };
  };

  const measureProduct = async (plan: MatmulPlan, sequence: Sequence, c: Region): Promise<number | null> => {
    engine.clear(c);
    sequence.run();
    if (!isExact(new Float32Array(await engine.read(c)), plan)) return null;
    const time = async (repeats: number): Promise<number> => {
      const startMs = performance.now();
      for (let repeat = 0; repeat < repeats; repeat++) sequence.run();
      await engine.device.queue.onSubmittedWorkDone();
      return (performance.now() - startMs) / repeats;
    };
    const repeats = Math.min(Math.max(Math.round(sampleMs / (await time(1))), 1), maxRepeats);
    let best = Infinity;
    for (let sample = 0; sample < samples; sample++) best = Math.min(best, await time(repeats));
    return best;
  };

  return async (variant, shapeClass) => {
    // Drivers compile side by side.
    const products = await Promise.all(probes[shapeClass].forms.map((form) => prepare(variant, shapeClass, form)));
    let sum = 0;
    for (const { plan, sequence } of products) {
      const ms = await measureProduct(plan, sequence, operandsOf(shapeClass).c);
      if (ms === null) return null;
      sum += ms;
    }
    return sum;
  };
}

function isExact(c: Float32Array, { form, m, n, k }: MatmulPlan): boolean {
  return Array.from({ length: checkedElements }, (_, index) => index).every((index) => {
    // Spread over rows and columns, the last of both included.
    const row = Math.round((index * (m - 1)) / (checkedElements - 1));
    const column = Math.round((((index * 7) % checkedElements) * (n - 1)) / (checkedElements - 1));
    let sum = 0;
    for (let depth = 0; depth < k; depth++) {
      const atA = form === 'TN' ? depth * m + row : row * k + depth;
      const atB = form === 'NT' ? column * k + depth : depth * n + column;
      sum += wholeNumber(atA) * wholeNumber(atB + 1);
    }
    return c[row * n + column] === sum;
  });
}
