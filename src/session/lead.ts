/**
 * How a page comes to lead a room: one tab of a browser at a time, the room's lease taken under a term above all before, and
 * the trainer at the step that the reign begins with. When to lead, and what happens when somebody else does, is decided by
 * the room's machines and the session.
 */
import { openBatches, weightOf } from '../data/batches.ts';
import type { PieceCorpus } from '../data/token-pieces.ts';
import { parameterCount, parameterLayoutOf } from '../model/parameters.ts';
import type { LeadClaim, WarmReign } from '../room/machine.ts';
import type { HistoryPoint, PeerId, Step, Term } from '../room/messages.ts';
import { roomCodecs } from '../room/codec-choice.ts';
import { fewestForRelays } from '../room/limits.ts';
import { fromStep, noRules, reopened, stepsOf } from '../room/rules.ts';
import type { RoomRules } from '../room/rules.ts';
import type { RunRecord } from '../checkpoint/types.ts';
import { hasLocalSteps, masterPartsOf } from '../trainer/types.ts';
import type { DeviceReport } from '../trainer/types.ts';
import { holderHash } from './directory-client.ts';
import type { Gpu } from './gpu.ts';
import { openCorpus } from './corpora.ts';
import { encodeCorpus } from './inheritance.ts';
import { LeadDriver } from './lead-driver.ts';
import type { LeadOptions } from './lead-driver.ts';
import { LeaseKeeper, createRoom, takeOver } from './lease.ts';
import type { ClaimOutcome, GrantedLead, LeaseOptions } from './lease.ts';
import type { RoomAddress } from './link.ts';
import { holderOf } from './memory.ts';
import { peerDevice } from './peer-device.ts';
import { problem, storageProblemOf } from './problems.ts';
import { RunError, batchOptions, parseRun, precisionNotice, serializeRun, trainerSettings } from './run.ts';
import type { RunDescription } from './run.ts';
import { parseRules } from './rules.ts';
import type { StateStore } from './state.ts';
import type { Visit } from './visit.ts';

/** Little enough to lose, rare enough not to matter: a save reads three times the weights back from the GPU. */
const checkpointEveryMs = 15_000;
const checkpointEverySteps = 50;

/** A run and what its batches are drawn from. */
export interface RunData {
  readonly description: RunDescription;
  readonly corpus: PieceCorpus;
  /** What a new run begins with, by the parameter layout; absent: fresh weights. */
  readonly readWeights?: () => Promise<ArrayBuffer>;
}

/** To be stored once, before the first step: enough to lead the room again. `corpus`: its name in this browser's storage. */
export function recordOf({ room, key }: RoomAddress, description: RunDescription, corpus: string, name: string, rules: RoomRules): RunRecord {
  return {
    room,
    key,
    title: rules.title ?? description.title,
    run: serializeRun(description),
    steps: stepsOf(rules, description.settings.steps),
    corpus,
    createdAtMs: Date.now(),
    name,
    rules: JSON.stringify(rules),
  };
}

/** Where a reign begins; the trainer is there. */
export interface ReignStart extends Omit<WarmReign, 'run'> {
  /** Other peers may have kept a state of the run. */
  readonly hasHeirs: boolean;
}

/** One tab of a browser leads a room; the lock is free again when that tab closes, however it does. Null: taken. */
export function leadLock(room: string): Promise<(() => void) | null> {
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(`cotrain-lead-${room}`, { ifAvailable: true }, (lock) => {
        if (lock === null) {
          resolve(null);
          return undefined;
        }
        return new Promise<void>((release) => {
          resolve(release);
        });
      })
      .catch(reject);
  });
}

export interface Around {
  readonly gpu: Gpu;
  readonly store: StateStore;
  readonly visit: Visit;
}

export const firstTerm = 1 as Term;

async function prepareTrainer({ description }: RunData, { gpu, store }: Around): Promise<void> {
  const { precision } = await gpu.trainer.prepare(trainerSettings(description));
  const differs = precisionNotice(description.settings.precision, precision);
  if (differs !== null) store.notice(differs);
}

/**
 * Given weights with a fresh optimizer. They are saved at once: unlike fresh ones they can't be made again from the seed. Where
 * nothing can be saved, the room goes on and the person is told.
 */
async function beginWith(weights: ArrayBuffer, { gpu, store, visit }: Around): Promise<string> {
  const zeros = (): ArrayBuffer => new ArrayBuffer(weights.byteLength);
  const hash = await gpu.trainer.restore({ step: 0, weights, firstMoments: zeros(), secondMoments: zeros() });
  const now = Date.now();
  await gpu.storage
    .saveCheckpoint({ room: visit.address.room, term: firstTerm, step: 0, savedAtMs: now, startedAtMs: now, loss: null, history: '[]' })
    .catch((error: unknown) => {
      store.update({ problem: storageProblemOf(error) });
    });
  return hash;
}

/** Fresh or given weights, and a place in the directory: a keeper of the lease claims it later where the directory can't be reached. */
export async function startNewRoom(data: RunData, around: Around): Promise<ReignStart> {
  const { gpu, visit } = around;
  await prepareTrainer(data, around);
  const hash = data.readWeights === undefined ? await gpu.trainer.initialize() : await beginWith(await data.readWeights(), around);
  const endpoint = await visit.signalling.endpoint().catch(() => null);
  const holder = await holderOf(visit.address.room);
  if (endpoint !== null) await createRoom(visit.directory, { peerId: endpoint.id, holder, term: firstTerm, step: 0 });
  return { step: 0 as Step, hash, history: [], rules: noRules, startedAtMs: Date.now(), isPaused: false, sentAs: null, hasHeirs: false };
}

/** Asks the directory for the lead, unless another tab of this browser has it or asks too. Whoever has got it must `unlock` in the end. */
export async function claimLead(
  { term, step, isForgotten, isWarm }: LeadClaim,
  visit: Visit,
): Promise<{ readonly outcome: ClaimOutcome; readonly unlock: () => void }> {
  const unlock = await leadLock(visit.address.room);
  if (unlock === null) return { outcome: { kind: 'wait', retryInMs: 0 }, unlock: () => undefined };
  try {
    const endpoint = await visit.signalling.endpoint();
    const claim = { peerId: endpoint.id, holder: await holderOf(visit.address.room), step };
    const { directory } = visit;
    const outcome = await (isForgotten ? createRoom(directory, { ...claim, term }) : takeOver(directory, { ...claim, expectedTerm: term, isWarm }));
    if (outcome.kind !== 'led') unlock();
    return { outcome, unlock };
  } catch (error) {
    unlock();
    throw error;
  }
}

/** Puts the trainer where this browser last saved the run, or at its beginning. Throws a `RunError` when nothing of it is saved. */
export async function restoreRun(around: Around): Promise<{ readonly data: RunData; readonly start: ReignStart }> {
  const { gpu, store, visit } = around;
  const { room, key } = visit.address;
  const record = await gpu.storage.loadRun(room);
  if (record?.key !== key) throw new RunError(problem('run-not-found', 'This browser has no saved run of that room any more.'));
  const description = parseRun(record.run);
  const data = { description, corpus: await openCorpus(gpu.storage, record.corpus, description.settings.model.vocab_size) };
  // Of the owner's own page: nobody else brings a closed room back.
  const rules = reopened(parseRules(record.rules), store.state.name);
  await prepareTrainer(data, around);
  const restored = await gpu.storage.restoreCheckpoint(room);
  if (restored === null) {
    if (data.description.begins === 'files') throw new RunError(problem('run-not-found', 'This browser has lost the weights that the run began with.'));
    const hash = await gpu.trainer.initialize();
    return { data, start: { step: 0 as Step, hash, history: [], rules, startedAtMs: record.createdAtMs, isPaused: false, sentAs: null, hasHeirs: true } };
  }
  if (restored.damagedNewer > 0) store.notice('The newest checkpoint was damaged; the one before it is used.');
  const { facts, replicaHash } = restored;
  const { step, startedAtMs } = facts;
  // Our own JSON, behind the checkpoint's checksum.
  const history = JSON.parse(facts.history) as HistoryPoint[];
  return { data, start: { step: step as Step, hash: replicaHash, history, rules: fromStep(rules, history, step as Step), startedAtMs, isPaused: false, sentAs: null, hasHeirs: true } };
}

/** The lease of a term that was granted, or is to be claimed when the directory is back. */
export async function keepLease(
  granted: GrantedLead,
  { store, visit }: Around,
  told: Pick<LeaseOptions, 'named' | 'heldUntil' | 'deposed'>,
): Promise<LeaseKeeper> {
  return new LeaseKeeper(
    {
      ...told,
      directory: visit.directory,
      holder: await holderOf(visit.address.room),
      peerId: () => visit.signalling.id ?? offlineId,
      step: () => store.state.step,
      nowMs: () => performance.now(),
      reachable: (isReachable) => {
        store.update({ signalling: isReachable ? 'online' : 'offline' });
      },
    },
    granted,
  );
}

/** Less than this is fetched from the coordinator before a connection to anybody else is up. */
const leastSharedBytes = 4 * 2 ** 20;
/** Updates of smaller models are sent to everybody before a relay could do it. */
const leastForwardedParameters = 250_000;

/** Four bytes of each parameter, and as much again for padding and whatever a codec adds. */
function maxContributionBytes(parameters: number): number {
  return 2 * Float32Array.BYTES_PER_ELEMENT * parameters + 2 ** 20;
}

/** Nobody can connect to a page that has never reached the signalling server. */
const offlineId = 'offline';

/** From here on the room's machine runs. */
export async function beginReign(
  { description, corpus }: RunData,
  start: ReignStart,
  lease: LeaseKeeper,
  device: DeviceReport,
  { store, visit }: Around,
  told: Pick<LeadOptions, 'trainer' | 'storage' | 'changed' | 'problem' | 'notice' | 'declined' | 'checkpointSaved' | 'handOver' | 'closeRoom'>,
): Promise<LeadDriver> {
  const { settings } = description;
  const source = await openBatches(corpus, batchOptions(description));
  const { step, hash, history, rules, startedAtMs, isPaused, sentAs, hasHeirs } = start;
  return new LeadDriver({
    ...told,
    room: visit.address.room,
    owner: description.owner,
    source,
    corpus: () => encodeCorpus(corpus),
    lease,
    master: { parts: masterPartsOf(settings), bytes: parameterLayoutOf(settings.model).totalElements * Float32Array.BYTES_PER_ELEMENT },
    maxBlobBytes: maxContributionBytes(parameterCount(settings.model)),
    nowMs: () => performance.now(),
    config: {
      self: (visit.signalling.id ?? `${offlineId}-${crypto.randomUUID()}`) as PeerId,
      holderHash: await holderHash(await holderOf(visit.address.room)),
      name: store.state.name,
      term: lease.term as Term,
      run: serializeRun(description),
      steps: settings.steps,
      microbatchesPerStep: source.microbatchesPerStep,
      codecs: roomCodecs(settings.codec, settings.localSteps),
      sentAs,
      hasLocalSteps: hasLocalSteps(settings),
      tokensPerMicrobatch: settings.rowsPerMicrobatch * settings.contextLength,
      weightOfMicrobatch: (of, microbatch) => source.weightOfMicrobatch(of, microbatch),
      selfDevice: peerDevice(device),
      sharesReplica: parameterCount(settings.model) * Float32Array.BYTES_PER_ELEMENT >= leastSharedBytes,
      relaysFrom: parameterCount(settings.model) >= leastForwardedParameters ? fewestForRelays : null,
      evalEvery: source.validation.length > 0 ? settings.evalEvery : 0,
      validationWeights: source.validation.map(weightOf),
      patience: settings.patience,
      checkpointEveryMs,
      checkpointEverySteps,
      startStep: step,
      startHash: hash,
      history,
      rules,
      startedAtMs,
      startPaused: isPaused,
      hasHeirs,
      leaseUntilMs: lease.heldUntilMs,
    },
  });
}
