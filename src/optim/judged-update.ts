/**
 * An update of all parameters from a sum of gradients, of which no element is changed unless all are finite: global norm, verdict
 * and update in one submit that never waits. What the update does to an element is the shader's entry point. Frozen tensors are not
 * visited: whatever a sum says of them neither counts in the norm nor changes anything.
 */
import shader from '../../shaders/optimizer.wgsl?raw';
import { flatRanges, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, FlatSpan, Memory, ParameterLayout, Region, Sequence } from '../engine/index.ts';
import type { UpdateFactors, UpdateResult } from './adamw-rule.ts';

const settingsElements = 12;
const statusElements = 3;

/** The shader's, by the same names. */
export interface UpdateNumbers extends UpdateFactors {
  readonly gradientClip: number;
  readonly oneMinusBeta1: number;
  readonly beta2: number;
  readonly oneMinusBeta2: number;
  readonly epsilon: number;
  readonly matrices: MatrixNumbers;
}

/** Of what `muon.ts` does with matrices. */
export interface MatrixNumbers {
  readonly momentum: number;
  readonly decayFactor: number;
  readonly stepSize: number;
}

/** For updates that treat all elements alike. */
export const noMatrices: MatrixNumbers = { momentum: 0, decayFactor: 1, stepSize: 0 };

/** What is done to a span of the elements: the shader's entry point, and what it binds after the gradients and the norm's parts. */
export interface SpanUpdate {
  readonly entryPoint: 'adamw' | 'momentum' | 'nesterov';
  readonly changed: readonly Memory[];
  /** Default: all that is trained. */
  readonly spans?: readonly FlatSpan[];
}

export class JudgedUpdate {
  readonly #engine: Engine;
  /** For dispatches of others that hang on the same verdict. */
  readonly bindings: readonly [settings: Region, status: Region];
  readonly #settings: Region;
  readonly #status: Region;
  readonly #sequence: Sequence;

  private constructor(engine: Engine, settings: Region, status: Region, sequence: Sequence) {
    this.#engine = engine;
    this.bindings = [settings, status];
    this.#settings = settings;
    this.#status = status;
    this.#sequence = sequence;
  }

  static async create(engine: Engine, { decayedElements, trainedSpans }: ParameterLayout, gradientSum: Memory, updates: readonly SpanUpdate[]): Promise<JudgedUpdate> {
    const settings = engine.allocate('optimizer settings', settingsElements);
    const status = engine.allocate('optimizer status', statusElements);
    const ranges = flatRanges(gradientSum, engine.profile, trainedSpans);
    const parts = ranges.reduce((sum, { groups }) => sum + groups, 0);
    const partSums = engine.allocate('norm parts', 2 * parts);
    const dispatch = (entry: string, range: (typeof ranges)[number], changed: readonly Memory[] = []): DirectDispatch => ({
      label: `optimizer ${entry}`,
      shader,
      entryPoint: entry,
      constants: {
        COUNT: range.count,
        DECAYED: Math.max(0, Math.min(range.count, decayedElements - range.start)),
        FIRST_PART: range.firstGroup,
        GROUPS_X: range.groupsX,
        PARTS: parts,
      },
      bindings: [settings, status, partOf(gradientSum, range), partSums, ...changed.map((memory) => partOf(memory, range))],
      workgroups: entry === 'judge' ? [1, 1, 1] : range.workgroups,
    });
    const sequence = await engine.sequence('optimizer', [
      ...ranges.map((range) => dispatch('squares', range)),
      ...ranges.slice(0, 1).map((range) => dispatch('judge', range)),
      ...updates.flatMap(({ entryPoint, changed, spans = trainedSpans }) =>
        flatRanges(gradientSum, engine.profile, spans).map((range) => dispatch(entryPoint, range, changed)),
      ),
    ]);
    return new JudgedUpdate(engine, settings, status, sequence);
  }

  run(numbers: UpdateNumbers): void {
    const values = Float32Array.of(
      numbers.inverseWeightSum,
      numbers.gradientClip,
      numbers.decayFactor,
      numbers.stepSize,
      numbers.rootCorrection2,
      numbers.oneMinusBeta1,
      numbers.beta2,
      numbers.oneMinusBeta2,
      numbers.epsilon,
      numbers.matrices.momentum,
      numbers.matrices.decayFactor,
      numbers.matrices.stepSize,
    );
    this.#engine.write(this.#settings, values);
    this.#sequence.run();
  }

  /** What the last run did. Waits for it. */
  async result(): Promise<UpdateResult> {
    const [norm = Number.NaN, , applied] = new Float32Array(await this.#engine.read(this.#status));
    return { gradNorm: norm, applied: applied === 1 };
  }
}
