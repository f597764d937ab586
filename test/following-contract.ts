/**
 * What a successor must do, whatever it computes on: the trainers of the page and of the simulator are held to the same
 * tests. Three of them make a room: a leader, a follower, and a member that only helps.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { MasterState } from '../src/checkpoint/types.ts';
import { CodecError } from '../src/codec/types.ts';
import { corpusBatches } from '../src/data/batches.ts';
import type { BatchSource } from '../src/data/types.ts';
import type { CommitResult, FollowedStep, GradientJob, TrainerSettings } from '../src/trainer/types.ts';
import type { RoomTrainer } from './room/cpu-trainer.ts';
import { Random } from './room/random.ts';

export type FollowingTrainer = Omit<RoomTrainer, 'evaluate'>;

const microbatchesPerStep = 3;
const contextLength = 9;
/** Before anybody follows, so that there are moments to adopt. */
const stepsBefore = 2;
const stepsFollowed = 7;

/** A decoder whose sizes the seed chooses, most of them odd. */
export function oddSettings(seed: number): TrainerSettings {
  const random = new Random(seed);
  const odd = (least: number, choices: number): number => least + 2 * random.below(choices);
  const kvHeads = odd(1, 2);
  return {
    model: {
      model_type: 'llama',
      vocab_size: odd(7, 5),
      hidden_size: odd(17, 8),
      intermediate_size: odd(19, 12),
      num_hidden_layers: 1,
      num_attention_heads: 2 * kvHeads,
      num_key_value_heads: kvHeads,
      head_dim: 4,
      max_position_embeddings: contextLength,
      rms_norm_eps: 1e-6,
      rope_theta: 10_000,
      tie_word_embeddings: false,
      initializer_range: 0.1,
      dropout: 0.1,
    },
    contextLength,
    rowsPerMicrobatch: 1,
    optimizer: {
      learningRate: 1e-2,
      minLearningRate: 1e-3,
      warmupSteps: 2,
      schedule: 'cosine',
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay: 0.1,
      // Clips some steps and not others.
      gradientClip: 1.9,
    },
    steps: 50,
    seed,
  };
}

interface Step {
  readonly isClipped: boolean;
  readonly update: ArrayBuffer;
  readonly followed: FollowedStep;
}

/** Bytes for one call: trainers may keep or move what they are given. */
function given({ gradient, weightSum }: FollowedStep): FollowedStep {
  return { gradient: gradient.slice(0), weightSum };
}

function asked(bytes: ArrayBuffer | null): ArrayBuffer {
  if (bytes === null) throw new Error('what was asked for is null');
  return bytes;
}

/** ‖a − b‖ / ‖b‖ */
function relativeDifference(a: ArrayBuffer, b: ArrayBuffer): number {
  const [left, right] = [new Float32Array(a), new Float32Array(b)];
  expect(left.length).toBe(right.length);
  const norm = (values: Float64Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return norm(Float64Array.from(left, (value, at) => value - (right[at] ?? Number.NaN))) / norm(Float64Array.from(right));
}

function withValue(bytes: ArrayBuffer, at: number, value: number): ArrayBuffer {
  const changed = new Float32Array(bytes.slice(0));
  changed[at] = value;
  return changed.buffer;
}

export function followingContract<T extends FollowingTrainer>(
  what: string,
  seed: number,
  open: (settings: TrainerSettings) => Promise<T>,
  close: (trainer: T) => Promise<void> = () => Promise.resolve(),
): void {
  describe(`a successor on ${what}`, () => {
    const settings = oddSettings(seed);
    const random = new Random(seed);
    const tokens = Uint32Array.from({ length: 200 }, (_, at) => (random.chance(0.7) ? at : random.below(99)) % settings.model.vocab_size);
    const source: BatchSource = corpusBatches(tokens, {
      rowsPerStep: microbatchesPerStep,
      rowsPerMicrobatch: 1,
      contextLength,
      order: 'shuffled',
      seed,
      validationShare: 0,
    });
    let leader: T;
    let follower: T;
    let helper: T;
    beforeAll(async () => {
      [leader, follower, helper] = await Promise.all([open(settings), open(settings), open(settings)]);
    });
    afterAll(async () => {
      await Promise.all([leader, follower, helper].map(close));
    });
    beforeEach(async () => {
      await leader.initialize();
      await load(follower, helper);
      for (let step = 0; step < stepsBefore; step++) await roomStep(step, null);
    });

    async function load(...members: readonly FollowingTrainer[]): Promise<void> {
      const { step, bytes } = await leader.replica();
      for (const member of members) await member.loadReplica(step, bytes.slice(0));
    }

    function jobOf(step: number, indices: readonly number[]): GradientJob {
      return { assignment: `${step}:${indices.join()}`, step, microbatches: indices.map((index) => ({ index, rows: source.draw(step, index) })) };
    }

    /** What the leader commits of all three's gradients; nobody has applied it yet. */
    async function committedStep(step: number): Promise<Step> {
      await leader.beginStep(step);
      let weightSum = 0;
      for (const [index, trainer] of [leader, follower, helper].entries()) {
        const job = jobOf(step, [index]);
        weightSum += (await trainer.computeGradients(job)).weightSum;
        if (trainer === leader) await leader.addOwnContribution(job.assignment);
        else await leader.addContribution(step, await trainer.takeContribution(job.assignment));
      }
      const { gradNorm, update, gradient } = await leader.commit(step, weightSum, { encodeUpdate: true, encodeGradient: true });
      return { isClipped: gradNorm > settings.optimizer.gradientClip, update: asked(update), followed: { gradient: asked(gradient), weightSum } };
    }

    /** The same, applied; by the successor together with the gradient. */
    async function roomStep(step: number, successor: FollowingTrainer | null): Promise<Step> {
      const committed = await committedStep(step);
      const { update, followed } = committed;
      for (const member of [follower, helper]) {
        await member.applyUpdate(step, update.slice(0), member === successor ? given(followed) : undefined);
      }
      return committed;
    }

    /** One that a single trainer computes and commits. */
    async function loneStep(trainer: FollowingTrainer, step: number): Promise<CommitResult & { readonly loss: number }> {
      const job = jobOf(step, [0, 1, 2]);
      await trainer.beginStep(step);
      const { lossSum, weightSum } = await trainer.computeGradients(job);
      await trainer.addOwnContribution(job.assignment);
      return { ...(await trainer.commit(step, weightSum, { encodeUpdate: false, encodeGradient: true })), loss: lossSum / weightSum };
    }

    /** The follower has adopted the leader's moments. */
    async function follow(): Promise<void> {
      const { step, firstMoments, secondMoments } = await leader.masterState();
      expect(await follower.beginFollowing()).toBe(step);
      await follower.adoptMoments(step, firstMoments, secondMoments);
    }

    async function expectSameState(): Promise<void> {
      expect(parts(await follower.masterState())).toEqual(parts(await leader.masterState()));
    }

    function parts(state: MasterState): unknown {
      return [state.step, ...[state.weights, state.firstMoments, state.secondMoments].map((bytes) => new Uint32Array(bytes))];
    }

    test.each([0, 1, 5])('has the master state of its coordinator when the moments come %i steps late, and leads on as it would have', async (late) => {
      const start = await leader.masterState();
      expect(await follower.beginFollowing()).toBe(stepsBefore);
      const clipped = new Set<boolean>();
      let step = stepsBefore;
      for (; step < stepsBefore + stepsFollowed; step++) {
        if (step === stepsBefore + late) {
          await expect(follower.masterState(), 'with what it followed alone').rejects.toThrow(RangeError);
          await follower.adoptMoments(start.step, start.firstMoments.slice(0), start.secondMoments.slice(0));
        }
        clipped.add((await roomStep(step, follower)).isClipped);
      }
      expect(clipped.size, 'clipped steps and others').toBe(2);
      const [theirs, own] = [await leader.masterState(), await follower.masterState()];
      expect(new Float32Array(theirs.firstMoments).some((value) => value !== 0)).toBe(true);
      if (late === 0) await expectSameState();
      expect(own.step).toBe(step);
      expect(new Uint32Array(own.weights)).toEqual(new Uint32Array(theirs.weights));
      expect(relativeDifference(own.firstMoments, theirs.firstMoments)).toBeLessThan(1e-6);
      expect(relativeDifference(own.secondMoments, theirs.secondMoments)).toBeLessThan(1e-6);
      for (const next of [step, step + 1, step + 2]) {
        const [expected, { loss }] = [await loneStep(leader, next), await loneStep(follower, next)];
        expect(Math.abs(loss / expected.loss - 1), `loss of step ${next}`).toBeLessThan(1e-6);
      }
    });

    test('can be saved and restored as its coordinator could', async () => {
      await follow();
      await roomStep(stepsBefore, follower);
      await helper.restore(await follower.masterState());
      const [expected, restored] = [await loneStep(leader, stepsBefore + 1), await loneStep(helper, stepsBefore + 1)];
      expect(restored).toEqual(expected);
    });

    test('follows anew, from where it is, when it is asked again', async () => {
      await follow();
      await roomStep(stepsBefore, follower);
      expect(await follower.beginFollowing()).toBe(stepsBefore + 1);
      await expect(follower.masterState()).rejects.toThrow(RangeError);
      await follow();
      await roomStep(stepsBefore + 1, follower);
      await expectSameState();
    });

    test.each<readonly [string, (good: Step) => readonly [update: ArrayBuffer, followed: FollowedStep]]>([
      ['a gradient that is too short', ({ update, followed }) => [update, { ...followed, gradient: followed.gradient.slice(4) }]],
      ['a gradient that is not finite', ({ update, followed }) => [update, { ...followed, gradient: withValue(followed.gradient, 5, Number.NaN) }]],
      ['a weight that nothing can be divided by', ({ update, followed }) => [update, { ...followed, weightSum: 0 }]],
      ['a weight that is no number', ({ update, followed }) => [update, { ...followed, weightSum: Number.NaN }]],
      ['an update that is too long', ({ update, followed }) => [new ArrayBuffer(update.byteLength + 4), followed]],
      ['an update that is not finite', ({ update, followed }) => [withValue(update, 7, Infinity), followed]],
    ])('refuses %s together with what came with it, and has changed nothing', async (_, damage) => {
      await follow();
      const before = parts(await follower.masterState());
      const good = await committedStep(stepsBefore);
      const [update, followed] = damage(good);
      await expect(follower.applyUpdate(stepsBefore, update.slice(0), given(followed))).rejects.toThrow(CodecError);
      expect(parts(await follower.masterState())).toEqual(before);
      await follower.applyUpdate(stepsBefore, good.update.slice(0), given(good.followed));
      await expectSameState();
    });

    test.each<readonly [string, (state: MasterState) => readonly [first: ArrayBuffer, second: ArrayBuffer]]>([
      ['too short', ({ firstMoments, secondMoments }) => [firstMoments.slice(4), secondMoments]],
      ['not finite', ({ firstMoments, secondMoments }) => [firstMoments, withValue(secondMoments, 3, Infinity)]],
      ['no numbers', ({ firstMoments, secondMoments }) => [withValue(firstMoments, 0, Number.NaN), secondMoments]],
      ['of negative squares', ({ firstMoments, secondMoments }) => [firstMoments, withValue(secondMoments, 3, -1e-9)]],
    ])('refuses moments that are %s, and adopts the right ones afterwards', async (_, damage) => {
      const state = await leader.masterState();
      await follower.beginFollowing();
      await roomStep(stepsBefore, follower);
      const [first, second] = damage(state);
      await expect(follower.adoptMoments(state.step, first.slice(0), second.slice(0))).rejects.toThrow(CodecError);
      await expect(follower.masterState()).rejects.toThrow(RangeError);
      await follower.adoptMoments(state.step, state.firstMoments, state.secondMoments);
      expect(relativeDifference((await follower.masterState()).firstMoments, (await leader.masterState()).firstMoments)).toBeLessThan(1e-6);
    });

    test('adopts moments once, and only those of the step at which it began', async () => {
      const { firstMoments, secondMoments } = await leader.masterState();
      const adopt = (step: number): Promise<void> => follower.adoptMoments(step, firstMoments.slice(0), secondMoments.slice(0));
      await expect(adopt(stepsBefore), 'by one that does not follow').rejects.toThrow(RangeError);
      await follower.beginFollowing();
      await roomStep(stepsBefore, follower);
      await expect(adopt(stepsBefore + 1)).rejects.toThrow(RangeError);
      await adopt(stepsBefore);
      await expect(adopt(stepsBefore), 'twice').rejects.toThrow(RangeError);
    });

    test('follows steps in order, and only when it was asked to', async () => {
      const { update, followed } = await committedStep(stepsBefore);
      const apply = (step: number): Promise<string> => follower.applyUpdate(step, update.slice(0), given(followed));
      await expect(apply(stepsBefore), 'before it follows').rejects.toThrow(RangeError);
      await follower.beginFollowing();
      await expect(apply(stepsBefore + 1)).rejects.toThrow(RangeError);
      await expect(apply(stepsBefore - 1)).rejects.toThrow(RangeError);
      await apply(stepsBefore);
      await expect(apply(stepsBefore), 'twice').rejects.toThrow(RangeError);
    });

    test.each<readonly [string, () => Promise<unknown>]>([
      ['an update without its gradient', () => roomStep(stepsBefore, null)],
      ['a replica', () => load(follower)],
    ])('follows no longer after %s', async (_, end) => {
      await follow();
      await end();
      const { step } = await follower.replica();
      await expect(follower.masterState()).rejects.toThrow(RangeError);
      await expect(follower.beginStep(step)).rejects.toThrow(RangeError);
      const { update, followed } = await committedStep(step);
      await expect(follower.applyUpdate(step, update, followed)).rejects.toThrow(RangeError);
    });

    test('without the moments can neither lead nor be saved, as any other member', async () => {
      await follower.beginFollowing();
      for (const member of [follower, helper]) {
        await expect(member.masterState()).rejects.toThrow(RangeError);
        await expect(member.beginStep(stepsBefore)).rejects.toThrow(RangeError);
        await expect(member.commit(stepsBefore, 1, { encodeUpdate: false, encodeGradient: false })).rejects.toThrow(RangeError);
      }
    });

    test('gets the very sum that was committed, and nothing of a step that was not', async () => {
      const job = jobOf(stepsBefore, [0]);
      const { weightSum } = await leader.computeGradients(job);
      const own = await leader.takeContribution(job.assignment);
      const tryCommit = async (contribution: ArrayBuffer, encodeGradient: boolean): Promise<CommitResult> => {
        await leader.beginStep(stepsBefore);
        await leader.addContribution(stepsBefore, contribution.slice(0));
        await leader.addContribution(stepsBefore, contribution.slice(0));
        return leader.commit(stepsBefore, weightSum, { encodeUpdate: false, encodeGradient });
      };
      // Each is finite, and so may be added; their sum is not.
      const refused = await tryCommit(withValue(own, 3, 3e38), true);
      expect(refused).toMatchObject({ applied: false, update: null, gradient: null });
      const { gradient } = await tryCommit(own, true);
      expect(new Float32Array(asked(gradient))).toEqual(new Float32Array(own).map((value) => 2 * value));
      await leader.beginStep(stepsBefore + 1);
      expect(await leader.commit(stepsBefore + 1, 1, { encodeUpdate: false, encodeGradient: false })).toMatchObject({ applied: true, gradient: null });
    });
  });
}
