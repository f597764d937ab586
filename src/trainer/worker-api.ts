/**
 * What the trainer worker offers over Comlink: the trainer and the checkpoint store beside it, so that weights go from
 * GPU to disk and back without passing the page's main thread. Large buffers in results are moved, not copied.
 */
import { releaseProxy, transfer } from 'comlink';
import type { ProxyMethods } from 'comlink';
import type { BestFacts, BestWeightsStore } from '../checkpoint/best-weights.ts';
import { buffersOf } from '../checkpoint/parts.ts';
import type { CorpusStore } from '../checkpoint/corpora.ts';
import type { CheckpointStore } from '../checkpoint/store.ts';
import type { CheckpointFacts, RunChange, RunRecord, SavedProgress, SavedRunSummary } from '../checkpoint/types.ts';
import type { Trainer } from './types.ts';

export interface RestoredCheckpoint {
  readonly facts: CheckpointFacts;
  /** Hash of the replica that is on the GPU now. */
  readonly replicaHash: string;
  /** Newer checkpoints that were damaged, and are gone. */
  readonly damagedNewer: number;
}

/** Storage as the session uses it. Every method throws an error with a `problem` when the browser refuses. */
export interface RunStorage extends Omit<CorpusStore, 'sweepCorpora'> {
  /** Removes corpora that nobody has trained on. */
  sweepCorpora(): Promise<void>;
  saveRun(run: RunRecord): Promise<void>;
  changeRun(room: string, change: RunChange): Promise<void>;
  loadRun(room: string): Promise<RunRecord | null>;
  progress(room: string): Promise<SavedProgress | null>;
  /**
   * Saves the trainer's master state as it is when the calls made before are done. Throws, saving nothing, when that
   * is not at `facts.step`. Training goes on while the bytes are written.
   */
  saveCheckpoint(facts: CheckpointFacts): Promise<void>;
  /** Puts the newest good checkpoint on the GPU (after `prepare`); null when there is none. */
  restoreCheckpoint(room: string): Promise<RestoredCheckpoint | null>;
  /**
   * Keeps the replica as it is when the calls made before are done, in place of what was kept for that room before. Throws, keeping
   * what was there, when that is not at `facts.step`.
   */
  keepBest(facts: BestFacts): Promise<void>;
  list(): Promise<SavedRunSummary[]>;
  remove(room: string): Promise<void>;
}

export type TrainerWorkerApi = Trainer & { [Name in keyof RunStorage as `storage_${Name}`]: RunStorage[Name] };

export function storageOf(trainer: Trainer, openStore: () => Promise<CheckpointStore>, best: BestWeightsStore): RunStorage {
  let opening: Promise<CheckpointStore> | null = null;
  /** Opens on first use; a failure is not remembered, so that storage allowed later is used. */
  async function store(): Promise<CheckpointStore> {
    opening ??= openStore();
    try {
      return await opening;
    } catch (error) {
      opening = null;
      throw error;
    }
  }
  return {
    savePieces: async (corpus, from, pieces) => (await store()).savePieces(corpus, from, pieces),
    saveIndex: async (corpus, index) => (await store()).saveIndex(corpus, index),
    corpusIndex: async (corpus) => (await store()).corpusIndex(corpus),
    corpusPiece: async (corpus, number) => (await store()).corpusPiece(corpus, number),
    removeCorpus: async (corpus) => (await store()).removeCorpus(corpus),
    sweepCorpora: async () => (await store()).sweepCorpora(new Set()),
    saveRun: async (run) => (await store()).saveRun(run),
    changeRun: async (room, change) => (await store()).changeRun(room, change),
    loadRun: async (room) => (await store()).loadRun(room),
    progress: async (room) => (await store()).progress(room),
    async saveCheckpoint(facts) {
      // Asked for before anything is awaited: the state of this very moment in the order of calls.
      const state = await trainer.masterState();
      if (state.step !== facts.step) {
        throw new RangeError(`the weights are at step ${state.step}, and the checkpoint says ${facts.step}`);
      }
      await (await store()).saveCheckpoint({ ...facts, state });
    },
    async restoreCheckpoint(room) {
      const loaded = await (await store()).loadCheckpoint(room);
      if (loaded === null) return null;
      const { state, ...facts } = loaded.checkpoint;
      return { facts, replicaHash: await trainer.restore(state), damagedNewer: loaded.damagedNewer };
    },
    async keepBest(facts) {
      const { step, bytes } = await trainer.replica();
      if (step !== facts.step) throw new RangeError(`the weights are at step ${step}, and the best are of ${facts.step}`);
      await best.save({ ...facts, weights: bytes });
    },
    list: async () => (await store()).list(),
    async remove(room) {
      await (await store()).remove(room);
      await best.remove(room);
    },
  };
}

/** The object to expose: the same calls, with the buffers of results moved to the caller. */
export function workerApi(trainer: Trainer, storage: RunStorage): TrainerWorkerApi {
  return {
    check: () => trainer.check(),
    prepare: (settings) => trainer.prepare(settings),
    initialize: () => trainer.initialize(),
    restore: (state) => trainer.restore(state),
    loadReplica: (step, bytes) => trainer.loadReplica(step, bytes),
    applyUpdate: (step, bytes, followed) => trainer.applyUpdate(step, bytes, followed),
    beginFollowing: () => trainer.beginFollowing(),
    async readMaster(part, offsetBytes, byteLength) {
      const range = await trainer.readMaster(part, offsetBytes, byteLength);
      return transfer(range, [range.bytes]);
    },
    writeMaster: (step, part, offsetBytes, bytes) => trainer.writeMaster(step, part, offsetBytes, bytes),
    computeGradients: (job) => trainer.computeGradients(job),
    explainNonFinite: (job) => trainer.explainNonFinite(job),
    kernelTimes: () => trainer.kernelTimes(),
    compareKernels: (job) => trainer.compareKernels(job),
    cancel: (assignment) => {
      trainer.cancel(assignment);
    },
    async takeContribution(assignment, codec) {
      const bytes = await trainer.takeContribution(assignment, codec);
      return transfer(bytes, [bytes]);
    },
    beginStep: (step) => trainer.beginStep(step),
    addOwnContribution: (assignment) => trainer.addOwnContribution(assignment),
    addContribution: (step, bytes) => trainer.addContribution(step, bytes),
    async commit(step, weightSum, options) {
      const result = await trainer.commit(step, weightSum, options);
      return transfer(result, [result.update, result.gradient].filter((bytes) => bytes !== null));
    },
    async replica() {
      const replica = await trainer.replica();
      return transfer(replica, [replica.bytes]);
    },
    async masterState() {
      const state = await trainer.masterState();
      return transfer(state, buffersOf(state));
    },
    namedGradients: (step, weightSum) => trainer.namedGradients(step, weightSum),
    evaluate: (rows) => trainer.evaluate(rows),
    async sample(request, drawn) {
      try {
        return await trainer.sample(request, drawn);
      } finally {
        release(drawn);
      }
    },
    stopSample: (sample) => {
      trainer.stopSample(sample);
    },
    keepWeights: () => trainer.keepWeights(),
    dropWeights: (id) => trainer.dropWeights(id),
    whenLost: () => trainer.whenLost(),
    dispose: () => trainer.dispose(),
    storage_saveRun: (run) => storage.saveRun(run),
    storage_changeRun: (room, change) => storage.changeRun(room, change),
    storage_savePieces: (corpus, from, pieces) => storage.savePieces(corpus, from, pieces),
    storage_saveIndex: (corpus, index) => storage.saveIndex(corpus, index),
    storage_corpusIndex: (corpus) => storage.corpusIndex(corpus),
    async storage_corpusPiece(corpus, number) {
      const piece = await storage.corpusPiece(corpus, number);
      return piece === null ? null : transfer(piece, [piece]);
    },
    storage_removeCorpus: (corpus) => storage.removeCorpus(corpus),
    storage_sweepCorpora: () => storage.sweepCorpora(),
    storage_loadRun: (room) => storage.loadRun(room),
    storage_progress: (room) => storage.progress(room),
    storage_saveCheckpoint: (facts) => storage.saveCheckpoint(facts),
    storage_restoreCheckpoint: (room) => storage.restoreCheckpoint(room),
    storage_keepBest: (facts) => storage.keepBest(facts),
    storage_list: () => storage.list(),
    storage_remove: (room) => storage.remove(room),
  };
}

/** A function of the caller's reaches over a port of its own, which nobody else would close. */
function release(callback: (Partial<ProxyMethods> & object) | undefined): void {
  callback?.[releaseProxy]?.();
}
