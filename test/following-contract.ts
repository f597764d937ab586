/**
 * What a successor must do, whatever it computes on: the trainers of the page and of the simulator are held to the same
 * tests. Three of them make a room: a leader, a follower, and a member that only helps.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buffersOf } from '../src/checkpoint/parts.ts';
import type { MasterState } from '../src/checkpoint/types.ts';
import { CodecError, codecOf, codecOfBytes, sumCodecOf } from '../src/codec/index.ts';
import type { CodecName } from '../src/codec/index.ts';
import { parameterLayoutOf } from '../src/model/parameters.ts';
import { corpusBatches } from '../src/data/batches.ts';
import type { MemoryBatchSource } from '../src/data/types.ts';
import { codecsOf, hasLocalSteps, masterPartsOf } from '../src/trainer/types.ts';
import type { CommitResult, FollowedStep, GradientJob, MasterPart, TrainerSettings } from '../src/trainer/types.ts';
import type { RoomTrainer } from './room/cpu-trainer.ts';
import { Random } from './room/random.ts';

export type FollowingTrainer = Omit<RoomTrainer, 'evaluate'>;

const microbatchesPerStep = 3;
const contextLength = 9;
/** Before anybody follows, so that there is a state to hand over. */
const stepsBefore = 2;
const stepsFollowed = 7;

/** What makes a difference to what a successor has to keep. */
export type RoomKind = Pick<TrainerSettings, 'codec' | 'localSteps'>;

/** A decoder whose sizes the seed chooses, most of them odd. */
export function oddSettings(seed: number, { codec = 'fp32', localSteps = 1 }: RoomKind = {}): TrainerSettings {
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
    codec,
    localSteps,
  };
}

interface Step {
  readonly isClipped: boolean;
  readonly update: ArrayBuffer;
  readonly followed: FollowedStep;
}

/** Bytes for one call: trainers may keep or move what they are given. */
function given({ gradient, ...facts }: FollowedStep): FollowedStep {
  return { gradient: gradient.slice(0), ...facts };
}

function asked(bytes: ArrayBuffer | null): ArrayBuffer {
  if (bytes === null) throw new Error('what was asked for is null');
  return bytes;
}

function withByte(bytes: ArrayBuffer, at: number, value: number): ArrayBuffer {
  const changed = new Uint8Array(bytes.slice(0));
  changed[at] = value;
  return changed.buffer;
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
  kind: RoomKind = {},
): void {
  const { codec = 'fp32', localSteps = 1 } = kind;
  /** In rooms that choose, another one in each step. */
  const codecOfStep = (step: number): CodecName => (codec === 'auto' ? (codecsOf(kind)[step % 3] ?? 'fp32') : codec);
  const hasOwnMaster = codec !== 'fp32';
  describe(`a successor on ${what}, updates in ${codec}${localSteps > 1 ? `, ${localSteps} local steps` : ''}`, () => {
    const settings = oddSettings(seed, kind);
    const isLocal = hasLocalSteps(settings);
    const masterParts = masterPartsOf(settings);
    const flatElements = parameterLayoutOf(settings.model).totalElements;
    const random = new Random(seed);
    const tokens = Uint32Array.from({ length: 200 }, (_, at) => (random.chance(0.7) ? at : random.below(99)) % settings.model.vocab_size);
    const source: MemoryBatchSource = corpusBatches(tokens, {
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

    /** With a value in it that is not finite. */
    const spoiled = (bytes: ArrayBuffer, value: number): ArrayBuffer => (codecOfBytes(bytes, flatElements, 'test').name.startsWith('int') ? withByte(bytes, 0, 255) : withValue(bytes, 7, value));

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
        else await leader.addContribution(step, await trainer.takeContribution(job.assignment, codecOfStep(step)));
      }
      const { gradNorm, learningRate, update, gradient } = await leader.commit(step, weightSum, { codec: codecOfStep(step), encodeUpdate: true, encodeGradient: true });
      return { isClipped: gradNorm > settings.optimizer.gradientClip, update: asked(update), followed: { gradient: asked(gradient), weightSum, learningRate } };
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
      return { ...(await trainer.commit(step, weightSum, { codec: codecOfStep(step), encodeUpdate: false, encodeGradient: true })), loss: lossSum / weightSum };
    }

    /** Of each part of a master state. */
    async function bytesOfAPart(): Promise<number> {
      return (await leader.replica()).bytes.byteLength;
    }

    /** A range of what the leader has, as it is now. */
    async function handOver(part: MasterPart, from: number, to: number): Promise<void> {
      const { step, bytes } = await leader.readMaster(part, from, to - from);
      await follower.writeMaster(step, part, from, bytes);
    }

    /** The follower has all that the leader has. */
    async function follow(): Promise<void> {
      const end = await bytesOfAPart();
      expect(await follower.beginFollowing()).toBe((await leader.replica()).step);
      for (const part of masterParts) await handOver(part, 0, end);
    }

    async function expectSameState(): Promise<void> {
      expect(parts(await follower.masterState())).toEqual(parts(await leader.masterState()));
    }

    function parts(state: MasterState): unknown {
      return [state.step, ...buffersOf(state).map((bytes) => new Uint32Array(bytes))];
    }

    test('has the master state of its coordinator when it comes range by range over several steps, and leads on as it would have', async () => {
      const end = await bytesOfAPart();
      expect(await follower.beginFollowing()).toBe(stepsBefore);
      const clipped = new Set<boolean>();
      // Half of the first part now, the rest of it a step later, and so on: each half is of another step.
      const halves = masterParts.flatMap((part): [MasterPart, number, number][] => [[part, 0, end / 2], [part, end / 2, end]]);
      let step = stepsBefore;
      for (; step < stepsBefore + stepsFollowed; step++) {
        const half = halves[step - stepsBefore];
        if (half !== undefined) {
          await expect(follower.masterState(), 'with a part of it').rejects.toThrow(RangeError);
          await handOver(...half);
        }
        clipped.add((await roomStep(step, follower)).isClipped);
      }
      if (!isLocal) expect(clipped.size, 'clipped steps and others').toBe(2);
      expect(new Float32Array((await leader.masterState()).firstMoments).some((value) => value !== 0)).toBe(true);
      await expectSameState();
      // What each device's own steps begin with is its own.
      for (const next of isLocal ? [] : [step, step + 1, step + 2]) {
        const [expected, led] = [await loneStep(leader, next), await loneStep(follower, next)];
        expect(led, `step ${next}`).toEqual(expected);
      }
    });

    test('can be saved and restored as its coordinator could', async () => {
      await follow();
      await roomStep(stepsBefore, follower);
      await helper.restore(await follower.masterState());
      expect(parts(await helper.masterState())).toEqual(parts(await leader.masterState()));
      if (isLocal) return;
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
      ['a gradient that is not finite', ({ update, followed }) => [update, { ...followed, gradient: spoiled(followed.gradient, Number.NaN) }]],
      ['a weight that nothing can be divided by', ({ update, followed }) => [update, { ...followed, weightSum: 0 }]],
      ['a weight that is no number', ({ update, followed }) => [update, { ...followed, weightSum: Number.NaN }]],
      ['an update that is too long', ({ update, followed }) => [new ArrayBuffer(update.byteLength + 4), followed]],
      ['an update that is not finite', ({ update, followed }) => [spoiled(update, Infinity), followed]],
      ['a learning rate that is no number', ({ update, followed }) => [update, { ...followed, learningRate: Number.NaN }]],
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

    test.each(([
      ['are cut within a number', 'firstMoments', (bytes) => bytes.slice(0, 6)],
      ['are none', 'firstMoments', () => new ArrayBuffer(0)],
      ['are too many', 'firstMoments', (bytes) => new ArrayBuffer(bytes.byteLength + 4)],
      ['are not finite', 'secondMoments', (bytes) => withValue(bytes, 3, Infinity)],
      ['are no numbers', 'firstMoments', (bytes) => withValue(bytes, 0, Number.NaN)],
      ['hold negative squares', 'secondMoments', (bytes) => withValue(bytes, 3, -1e-9)],
    ] as const satisfies readonly (readonly [string, MasterPart, (bytes: ArrayBuffer) => ArrayBuffer])[]).filter(([, part]) => masterParts.includes(part)))('refuses ranges that %s, and takes the right ones afterwards', async (_, part, damage) => {
      const end = await bytesOfAPart();
      await follower.beginFollowing();
      await roomStep(stepsBefore, follower);
      const { step, bytes } = await leader.readMaster(part, 0, end);
      await expect(follower.writeMaster(step, part, 0, damage(bytes.slice(0)))).rejects.toThrow(CodecError);
      await expect(follower.masterState()).rejects.toThrow(RangeError);
      for (const each of masterParts) await handOver(each, 0, end);
      await expectSameState();
    });

    test('takes ranges of its own step only, in their order, and each once', async () => {
      const end = await bytesOfAPart();
      const { step, bytes } = await leader.readMaster('firstMoments', 0, end);
      const write = (at: number, offset: number): Promise<void> => follower.writeMaster(at, 'firstMoments', offset, bytes.slice(offset));
      await expect(write(step, 0), 'by one that does not follow').rejects.toThrow(RangeError);
      await follower.beginFollowing();
      await expect(write(step + 1, 0), 'of another step').rejects.toThrow(RangeError);
      await expect(write(step, 8), 'with a gap').rejects.toThrow(RangeError);
      await write(step, 0);
      await expect(write(step, 0), 'twice').rejects.toThrow(RangeError);
      const other = hasOwnMaster ? null : 'masterWeights';
      if (other !== null) await expect(follower.writeMaster(step, other, 0, bytes.slice(0)), 'a part that is the replica').rejects.toThrow(RangeError);
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
      const sumCodec = sumCodecOf(codecOfStep(stepsBefore));
      const { weightSum } = await leader.computeGradients(job);
      const own = codecOf(sumCodec).decode(await leader.takeContribution(job.assignment, sumCodec), flatElements, 'test');
      const tryCommit = async (values: Float32Array<ArrayBuffer>, encodeGradient: boolean): Promise<CommitResult> => {
        await leader.beginStep(stepsBefore);
        for (let time = 0; time < 3; time += 1) await leader.addContribution(stepsBefore, codecOf(sumCodec).encode(values.slice()));
        return leader.commit(stepsBefore, weightSum, { codec: codecOfStep(stepsBefore), encodeUpdate: false, encodeGradient });
      };
      // Each is finite, and so may be added; their sum is not.
      const refused = await tryCommit(Float32Array.from(own, (value, at) => (at === 3 ? 1.5e38 : value)), true);
      expect(refused).toMatchObject({ applied: false, update: null, gradient: null });
      const { gradient } = await tryCommit(own, true);
      const sum = own.map((value) => value + value + value);
      expect(new Uint8Array(asked(gradient))).toEqual(new Uint8Array(codecOf(sumCodec).encode(sum, 'dithered')));
      await leader.beginStep(stepsBefore + 1);
      expect(await leader.commit(stepsBefore + 1, 1, { encodeUpdate: false, encodeGradient: false })).toMatchObject({ applied: true, gradient: null });
    });
  });
}
