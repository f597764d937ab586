/**
 * The page's side of the trainer worker: a `Trainer` and a `RunStorage` whose calls run in the worker. It decides
 * nothing; it moves buffers instead of copying them and turns a dead worker into errors instead of silence.
 *
 * Buffers given to `restore`, `loadReplica`, `applyUpdate`, `writeMaster` and `addContribution` are moved: the
 * caller can't use them afterwards.
 */
import { proxy, transfer, wrap } from 'comlink';
import type { Endpoint } from 'comlink';
import { buffersOf } from '../checkpoint/parts.ts';
import { TrainerError, carriedProblem, problems } from './errors.ts';
import { Failure } from './failure.ts';
import type { Problem, Trainer } from './types.ts';
import type { RunStorage, TrainerWorkerApi } from './worker-api.ts';

export interface TrainerWorker {
  readonly trainer: Trainer;
  readonly storage: RunStorage;
  /** Ends the worker at once. Calls under way are rejected. */
  terminate(): void;
}

export interface TrainerConnection extends Omit<TrainerWorker, 'terminate'> {
  /** Rejects every call under way and to come with this problem. */
  fail(problem: Problem): void;
}

/** A trainer at the other end of an endpoint where `workerApi` is exposed. */
export function connectTrainer(endpoint: Endpoint): TrainerConnection {
  const remote = wrap<TrainerWorkerApi>(endpoint);
  const failure = new Failure();
  const orFailure = <T>(call: Promise<T>): Promise<T> => failure.guard(call);

  const trainer: Trainer = {
    check: () => orFailure(remote.check()),
    prepare: (settings) => orFailure(remote.prepare(settings)),
    initialize: () => orFailure(remote.initialize()),
    restore: (state) => orFailure(remote.restore(transfer(state, buffersOf(state)))),
    loadReplica: (step, bytes) => orFailure(remote.loadReplica(step, transfer(bytes, [bytes]))),
    applyUpdate: (step, bytes, followed) =>
      orFailure(remote.applyUpdate(step, transfer(bytes, [bytes]), followed && transfer(followed, [followed.gradient]))),
    beginFollowing: () => orFailure(remote.beginFollowing()),
    readMaster: (part, offsetBytes, byteLength) => orFailure(remote.readMaster(part, offsetBytes, byteLength)),
    writeMaster: (step, part, offsetBytes, bytes) => orFailure(remote.writeMaster(step, part, offsetBytes, transfer(bytes, [bytes]))),
    computeGradients: (job) => orFailure(remote.computeGradients(job)),
    explainNonFinite: (job) => orFailure(remote.explainNonFinite(job)),
    kernelTimes: () => orFailure(remote.kernelTimes()),
    compareKernels: (job) => orFailure(remote.compareKernels(job)),
    cancel(assignment) {
      // Answered like every call, but there is nothing to wait for: the job's result says whether it was cancelled.
      remote.cancel(assignment).catch(() => undefined);
    },
    takeContribution: (assignment, codec) => orFailure(remote.takeContribution(assignment, codec)),
    beginStep: (step) => orFailure(remote.beginStep(step)),
    addOwnContribution: (assignment) => orFailure(remote.addOwnContribution(assignment)),
    addContribution: (step, bytes) => orFailure(remote.addContribution(step, transfer(bytes, [bytes]))),
    commit: (step, weightSum, options) => orFailure(remote.commit(step, weightSum, options)),
    replica: () => orFailure(remote.replica()),
    masterState: () => orFailure(remote.masterState()),
    namedGradients: (step, weightSum) => orFailure(remote.namedGradients(step, weightSum)),
    evaluate: (rows) => orFailure(remote.evaluate(rows)),
    sample: (request, drawn) => orFailure(remote.sample(request, drawn && proxy(drawn))),
    stopSample(sample) {
      // As with `cancel`: the sample's result says how it ended.
      remote.stopSample(sample).catch(() => undefined);
    },
    keepWeights: () => orFailure(remote.keepWeights()),
    dropWeights: (id) => orFailure(remote.dropWeights(id)),
    async whenLost() {
      try {
        return await orFailure(remote.whenLost());
      } catch (error) {
        return carriedProblem(error) ?? problems.workerFailed(String(error));
      }
    },
    dispose: () => orFailure(remote.dispose()),
  };
  const storage: RunStorage = {
    savePieces: (corpus, from, pieces) => orFailure(remote.storage_savePieces(corpus, from, pieces)),
    saveIndex: (corpus, index) => orFailure(remote.storage_saveIndex(corpus, index)),
    corpusIndex: (corpus) => orFailure(remote.storage_corpusIndex(corpus)),
    corpusPiece: (corpus, number) => orFailure(remote.storage_corpusPiece(corpus, number)),
    removeCorpus: (corpus) => orFailure(remote.storage_removeCorpus(corpus)),
    sweepCorpora: () => orFailure(remote.storage_sweepCorpora()),
    saveRun: (run) => orFailure(remote.storage_saveRun(run)),
    changeRun: (room, change) => orFailure(remote.storage_changeRun(room, change)),
    loadRun: (room) => orFailure(remote.storage_loadRun(room)),
    saveCheckpoint: (facts) => orFailure(remote.storage_saveCheckpoint(facts)),
    restoreCheckpoint: (room) => orFailure(remote.storage_restoreCheckpoint(room)),
    progress: (room) => orFailure(remote.storage_progress(room)),
    keepBest: (facts) => orFailure(remote.storage_keepBest(facts)),
    list: () => orFailure(remote.storage_list()),
    remove: (room) => orFailure(remote.storage_remove(room)),
  };
  return {
    trainer,
    storage,
    fail(problem) {
      failure.fail(new TrainerError(problem));
    },
  };
}

/** Starts the dedicated worker. A worker that dies shows up as `whenLost` and in every call. */
export function startTrainerWorker(): TrainerWorker {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'cotrain-trainer' });
  const connection = connectTrainer(worker);
  worker.addEventListener('error', (event) => {
    connection.fail(problems.workerFailed(event.message));
    worker.terminate();
  });
  return {
    trainer: connection.trainer,
    storage: connection.storage,
    terminate() {
      worker.terminate();
      connection.fail(problems.disposed());
    },
  };
}
