/**
 * Muon on the GPU (K. Jordan et al., 2024): matrices inside the layers take steps of their momentum's nearest matrix with orthonormal rows or columns, all of
 * whose directions count alike; embeddings, head and vectors take AdamW's. Steps are as large as AdamW's are, 0.2 by element on the root mean square (J. Liu
 * et al., Muon is Scalable for LLM Training, 2025), so that learning rates mean the same. It knows nothing of steps and schedules.
 *
 * The second moment of such matrices is not needed: what is to be made orthogonal lies in its place.
 */
import shader from '../../shaders/optimizer.wgsl?raw';
import { EngineError, flatRanges, Graph, partOf } from '../engine/index.ts';
import { orthogonalize } from '../engine/ops/orthogonalize.ts';
import type { DirectDispatch, Engine, FlatSpan, LayoutEntry, Memory, ParameterLayout, Program, Sequence } from '../engine/index.ts';
import type { AdamWCommit, AdamWSettings, UpdateResult } from './adamw-rule.ts';
import { adamWNumbers } from './adamw.ts';
import type { UpdatedRegions } from './adamw.ts';
import { JudgedUpdate } from './judged-update.ts';

export interface MuonSettings extends AdamWSettings {
  /** Of the matrices' gradients, with Nesterov's look ahead. */
  readonly momentum: number;
  /** The matrices' learning rate, in multiples of the others'. */
  readonly matrixRate: number;
}

/** Momentum: the authors'. Rate: between the two that were tried in PyTorch, 3.3 and 6.7 at a learning rate of 3e-3; not tuned here (docs/DECISIONS.md). */
export const muonDefaults = { momentum: 0.95, matrixRate: 4 } as const;

const rootMeanSquare = 0.2;

/** What an orthogonalized matrix is multiplied by: its elements' root mean square is 1/√(the larger side). */
export function stepScale([rows = 1, columns = 1]: readonly number[]): number {
  return rootMeanSquare * Math.sqrt(Math.max(rows, columns));
}

/** Of all that is trained, the spans of matrices and those of all else, in the order of the layout. */
export function spansOf({ entries, trainedSpans, totalElements }: ParameterLayout, isMatrix: (entry: LayoutEntry) => boolean): { readonly matrices: readonly FlatSpan[]; readonly others: readonly FlatSpan[] } {
  const spans = { matrices: [] as FlatSpan[], others: [] as FlatSpan[] };
  for (const [index, entry] of entries.entries()) {
    const start = entry.offsetElements;
    const end = entries[index + 1]?.offsetElements ?? totalElements;
    if (!trainedSpans.some((span) => span.start <= start && end <= span.end)) continue;
    const kind = isMatrix(entry) ? spans.matrices : spans.others;
    const touching = kind.at(-1)?.end === start ? kind.pop() : undefined;
    kind.push({ start: touching?.start ?? start, end });
  }
  return spans;
}

export class Muon {
  readonly firstMoment: Memory;
  readonly secondMoment: Memory;
  readonly #engine: Engine;
  readonly #settings: MuonSettings;
  readonly #update: JudgedUpdate;
  readonly #orthogonalization: Program;
  readonly #orthogonal: Memory;
  readonly #step: Sequence;

  private constructor(
    engine: Engine,
    settings: MuonSettings,
    moments: { readonly first: Memory; readonly second: Memory },
    update: JudgedUpdate,
    orthogonalization: Program,
    orthogonal: Memory,
    step: Sequence,
  ) {
    this.#engine = engine;
    this.#settings = settings;
    this.firstMoment = moments.first;
    this.secondMoment = moments.second;
    this.#update = update;
    this.#orthogonalization = orthogonalization;
    this.#orthogonal = orthogonal;
    this.#step = step;
  }

  /** Allocates the moments, zero. Weights and gradient sum are the caller's, as long as the layout. `isMatrix`: of two dimensions, and not a table of tokens. */
  static async create(
    engine: Engine,
    layout: ParameterLayout,
    { weights, gradientSum }: UpdatedRegions,
    settings: MuonSettings,
    isMatrix: (entry: LayoutEntry) => boolean,
  ): Promise<Muon> {
    const first = engine.allocateFlat('first moment', layout);
    const second = engine.allocateFlat('second moment', layout);
    const orthogonal = engine.allocateFlat('orthogonal matrices', layout);
    const { matrices, others } = spansOf(layout, isMatrix);
    const update = await JudgedUpdate.create(engine, layout, gradientSum, [
      { entryPoint: 'adamw', changed: [weights, first, second], spans: others },
      { entryPoint: 'nesterov', changed: [first, second], spans: matrices },
    ]);
    const graph = new Graph({ differentiates: false });
    for (const { name, shape } of layout.entries.filter((entry) => isMatrix(entry) && matrices.some(({ start, end }) => start <= entry.offsetElements && entry.offsetElements < end))) {
      graph.accumulate(orthogonalize(graph, graph.parameter(name, shape), stepScale(shape)), { kind: 'gradient', name });
    }
    const orthogonalization = await engine.compile(graph, { parameters: second, layout, gradients: orthogonal });
    const step = await engine.sequence(
      'matrices',
      flatRanges(weights, engine.profile, matrices).map((range): DirectDispatch => ({
        label: 'optimizer matrices',
        shader,
        entryPoint: 'matrices',
        constants: { COUNT: range.count, DECAYED: range.count, FIRST_PART: 0, GROUPS_X: range.groupsX, PARTS: 1 },
        bindings: [...update.bindings, partOf(orthogonal, range), partOf(weights, range)],
        workgroups: range.workgroups,
      })),
    );
    return new Muon(engine, settings, { first, second }, update, orthogonalization, orthogonal, step);
  }

  /** Queues one update. Throws `EngineError` when the batch has no loss weight. */
  commit(commit: AdamWCommit): void {
    if (!(commit.weightSum > 0)) throw new EngineError(`a batch of loss weight ${commit.weightSum} can't be averaged`);
    const { momentum, matrixRate, weightDecay } = this.#settings;
    const stepSize = commit.learningRate * matrixRate;
    this.#update.run({ ...adamWNumbers(this.#settings, commit), matrices: { momentum, stepSize, decayFactor: 1 - stepSize * weightDecay } });
    this.#engine.clear(this.#orthogonal);
    this.#orthogonalization.run();
    this.#step.run();
  }

  /** What the last commit did. Waits for it. */
  result(): Promise<UpdateResult> {
    return this.#update.result();
  }
}
