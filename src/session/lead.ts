/**
 * How a page comes to lead a room: one tab of a browser at a time, the trainer prepared and given the newest checkpoint, the
 * room's lease taken under a term above all before. What happens when somebody else leads is the session's to decide.
 */
import { weightOf } from '../data/batches.ts';
import type { HistoryPoint, PeerId, Step, Term } from '../room/messages.ts';
import type { CheckpointFacts, RunRecord } from '../checkpoint/types.ts';
import type { DeviceReport } from '../trainer/types.ts';
import type { Claim, DirectoryClient } from './directory-client.ts';
import type { Gpu } from './gpu.ts';
import { LeadDriver } from './lead-driver.ts';
import type { LeadOptions } from './lead-driver.ts';
import { LeaseKeeper, createRoom, takeOver } from './lease.ts';
import type { RoomAddress } from './link.ts';
import { holderOf } from './memory.ts';
import { peerDevice } from './peer-device.ts';
import { storageProblemOf } from './problems.ts';
import { batchesOf, parseRun, precisionNotice, serializeRun, trainerSettings } from './run.ts';
import type { RunDescription } from './run.ts';
import type { StateStore } from './state.ts';
import type { Visit } from './visit.ts';

/** Little enough to lose, rare enough not to matter: a save reads three times the weights back from the GPU. */
const checkpointEveryMs = 15_000;
const checkpointEverySteps = 50;

export interface LeadRequest {
  readonly address: RoomAddress;
  readonly description: RunDescription;
  readonly tokens: Uint32Array;
  readonly name: string;
  /** A term this room may have reached; 0 for a new room. */
  readonly lastTerm: number;
}

/** To be stored once, before the first step: enough to lead the same room again. */
export function recordOf({ address, description, tokens, name }: LeadRequest): RunRecord {
  return {
    ...address,
    title: description.title,
    run: serializeRun(description),
    steps: description.settings.steps,
    tokens: tokens.slice(), // Moved to the worker.
    createdAtMs: Date.now(),
    name,
  };
}

/** To lead a stored run's room again. Throws `RunError` when this version of the page can't. */
export function requestOf({ room, key, run, tokens }: RunRecord, name: string, lastTerm: number): LeadRequest {
  return { address: { room, key }, description: parseRun(run), tokens, name, lastTerm };
}

/** What a reign starts from. */
export interface ReignStart {
  readonly lease: LeaseKeeper;
  readonly self: PeerId;
  readonly startHash: string;
  readonly restored: CheckpointFacts | null;
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

/** Prepares the trainer and takes the room's lease. Null: somebody else holds it. */
export async function prepareReign(
  { address, description, lastTerm }: LeadRequest,
  { gpu, store, visit, deposed }: { readonly gpu: Gpu; readonly store: StateStore; readonly visit: Visit; readonly deposed: () => void },
): Promise<ReignStart | null> {
  const { trainer, storage } = gpu;
  const { precision } = await trainer.prepare(trainerSettings(description));
  const differs = precisionNotice(description.settings.precision, precision);
  if (differs !== null) store.notice(differs);
  const restored = await storage.restoreCheckpoint(address.room).catch((error: unknown) => {
    store.update({ problem: storageProblemOf(error) });
    return null;
  });
  const startHash = restored?.replicaHash ?? (await trainer.initialize());
  if (restored !== null && restored.damagedNewer > 0) {
    store.notice('The newest checkpoint was damaged; the one before it is used.');
  }
  const endpoint = await visit.signalling.endpoint().catch(() => null);
  const self = (endpoint?.id ?? `offline-${crypto.randomUUID()}`) as PeerId;
  const holder = await holderOf(address.room);
  const step = restored?.facts.step ?? 0;
  const term = await grantedTerm(visit.directory, { peerId: self, holder, step }, Math.max(lastTerm, restored?.facts.term ?? 0));
  if (term === null) return null;
  const options = {
    directory: visit.directory,
    holder,
    peerId: () => visit.signalling.id ?? self,
    step: () => Math.max(step, store.state.step),
    reachable: (isReachable: boolean) => {
      store.update({ signalling: isReachable ? 'online' : 'offline' });
    },
    named: () => undefined,
    deposed,
  };
  return { lease: new LeaseKeeper(options, { term }), self, startHash, restored: restored?.facts ?? null };
}

/**
 * A term above `lastTerm` (0: the room is new) under which this page leads; null: somebody else does. When the directory
 * can't be reached it is the next one, to be claimed when the directory is back.
 */
async function grantedTerm(directory: DirectoryClient, claim: Claim, lastTerm: number): Promise<number | null> {
  // A room that was just made up is in no directory.
  const known = lastTerm === 0 ? null : await directory.lookUp().catch(() => 'unreachable' as const);
  if (known === 'unreachable') return lastTerm + 1;
  const outcome =
    known === null
      ? await createRoom(directory, { ...claim, term: lastTerm + 1 })
      : await takeOver(directory, { ...claim, expectedTerm: known.term });
  if (outcome.kind === 'unreachable') return lastTerm + 1;
  return outcome.kind === 'led' ? outcome.term : null;
}

/** From here on the room's machine runs. */
export function beginReign(
  { address, description, tokens, name }: LeadRequest,
  { lease, self, startHash, restored }: ReignStart,
  device: DeviceReport,
  around: Pick<LeadOptions, 'trainer' | 'storage' | 'changed' | 'problem' | 'notice' | 'checkpointSaved'>,
): LeadDriver {
  const { settings } = description;
  const source = batchesOf(description, tokens);
  return new LeadDriver({
    ...around,
    room: address.room,
    source,
    nowMs: () => performance.now(),
    config: {
      self,
      name,
      term: lease.term as Term,
      run: serializeRun(description),
      steps: settings.steps,
      microbatchesPerStep: source.microbatchesPerStep,
      tokensPerMicrobatch: settings.rowsPerMicrobatch * settings.contextLength,
      weightOfMicrobatch: (step, microbatch) => weightOf(source.draw(step, microbatch)),
      selfDevice: peerDevice(device),
      evalEvery: source.validation.length > 0 ? settings.evalEvery : 0,
      checkpointEveryMs,
      checkpointEverySteps,
      startStep: (restored?.step ?? 0) as Step,
      startHash,
      // Our own JSON, behind the checkpoint's checksum.
      history: restored === null ? [] : (JSON.parse(restored.history) as HistoryPoint[]),
      startedAtMs: restored?.startedAtMs ?? Date.now(),
      startPaused: false,
    },
  });
}
