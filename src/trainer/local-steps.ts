/**
 * Steps that a device takes alone between two of the room's (DiLoCo: Douillard et al., 2023): a job's micro-batches in as many
 * groups, an update by the run's optimizer after each, on a copy of the replica. What it comes to is the change of the weights times the loss weight it
 * stands for, left where gradient sums are, so that the room adds, sends and commits it like those.
 *
 * Moments are the device's own, whoever leads; the replica never moves here.
 */
import shader from '../../shaders/local-steps.wgsl?raw';
import { flatRanges, partOf } from '../engine/index.ts';
import type { DirectDispatch, Engine, Memory, ParameterLayout, Region, Sequence } from '../engine/index.ts';
import { isLayerMatrix } from '../model/parameters.ts';
import { createGradientOptimizer, flatCopy, localLearningRateAt, scheduleAt } from '../optim/index.ts';
import type { GradientOptimizer } from '../optim/index.ts';
import { queueMicrobatches, readLoss, sumGradients, Pace } from './gradients.ts';
import type { GradientMachine } from './gradients.ts';
import { groupsOf } from './local-groups.ts';
import type { GradientJob, GradientResult, TrainerSettings } from './types.ts';

/** Of a run: its replica, what local steps change, and where their change is left. */
export interface LocalMemory {
  readonly engine: Engine;
  readonly layout: ParameterLayout;
  readonly weights: Memory;
  readonly trained: Memory;
  readonly gradients: Memory;
  readonly settings: TrainerSettings;
}

export class LocalSteps {
  readonly #engine: Engine;
  readonly #settings: TrainerSettings;
  readonly #optimizer: GradientOptimizer;
  readonly #weight: Region;
  readonly #begin: Sequence;
  readonly #change: Sequence;
  /** Of the own AdamW, whose bias corrections count them. */
  #updates = 0;

  private constructor(engine: Engine, settings: TrainerSettings, optimizer: GradientOptimizer, weight: Region, begin: Sequence, change: Sequence) {
    this.#engine = engine;
    this.#settings = settings;
    this.#optimizer = optimizer;
    this.#weight = weight;
    this.#begin = begin;
    this.#change = change;
  }

  static async open({ engine, layout, weights, trained, gradients, settings }: LocalMemory): Promise<LocalSteps> {
    const weight = engine.allocate('weight of the change', 1);
    const optimizer = await createGradientOptimizer(engine, layout, { weights: trained, gradientSum: gradients }, settings.optimizer, isLayerMatrix);
    const begin = await flatCopy(engine, 'begin local steps', weights, trained);
    const change = await engine.sequence(
      'local steps',
      flatRanges(weights, engine.profile).map((range): DirectDispatch => ({
        label: 'change of local steps',
        shader,
        entryPoint: 'change',
        constants: { COUNT: range.count, GROUPS_X: range.groupsX },
        bindings: [partOf(weights, range), partOf(trained, range), partOf(gradients, range), weight],
        workgroups: range.workgroups,
      })),
    );
    return new LocalSteps(engine, settings, optimizer, weight, begin, change);
  }

  /** Overwrites the gradient sums. `isCancelled` is asked before every micro-batch. */
  async compute(machine: GradientMachine, job: GradientJob, isCancelled: () => boolean): Promise<GradientResult> {
    const { assignment, step } = job;
    const startedMs = performance.now();
    const groups = groupsOf(job.microbatches, this.#settings.localSteps ?? 1);
    const total = { lossSum: 0, weightSum: 0, tokens: 0 };
    const pace = new Pace(this.#engine);
    this.#begin.run();
    this.#engine.clear(machine.lossSum);
    for (const [at, microbatches] of groups.entries()) {
      const group = { ...job, microbatches };
      let sums;
      if (machine.mixed === null) {
        this.#engine.clear(machine.gradients);
        sums = { ...(await queueMicrobatches(machine, machine.program, group, { scale: 1, isCancelled, pace })), lossSum: 0 };
      } else {
        sums = await sumGradients(machine, group, isCancelled);
      }
      if (isCancelled()) break;
      total.lossSum += sums.lossSum;
      total.weightSum += sums.weightSum;
      total.tokens += sums.tokens;
      if (sums.weightSum > 0) this.#update(job, at / groups.length, sums.weightSum);
    }
    this.#engine.write(this.#weight, Float32Array.of(total.weightSum));
    this.#change.run();
    // Also when cancelled: it waits until the GPU has done what was submitted.
    const [loss, { applied }] = await Promise.all([readLoss(machine), this.#optimizer.result()]);
    const isRefused = total.weightSum > 0 && !applied;
    return {
      assignment,
      step,
      ...total,
      // The last of its steps was not finite: neither is what all of them come to.
      lossSum: isRefused ? Number.NaN : machine.mixed === null ? loss : total.lossSum,
      computeMs: performance.now() - startedMs,
      cancelled: isCancelled(),
    };
  }

  /** For a run that begins anew. */
  forget(): void {
    this.#updates = 0;
    this.#engine.clear(this.#optimizer.firstMoment, this.#optimizer.secondMoment);
  }

  /** `progress`: share of the job that comes before this update. */
  #update({ step, changes = [] }: GradientJob, progress: number, weightSum: number): void {
    const { optimizer, steps, localSteps = 1 } = this.#settings;
    const now = scheduleAt(optimizer, steps, changes, step);
    const learningRate = localLearningRateAt(now.settings, step, now.steps, localSteps, progress * localSteps);
    this.#updates += 1;
    this.#optimizer.commit({ learningRate, update: this.#updates, weightSum });
  }
}
