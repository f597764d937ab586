/**
 * This page's trainer worker: started when first needed, its device check remembered, replaced when the GPU is lost.
 * Knows nothing of rooms.
 */
import { startTrainerWorker } from '../trainer/client.ts';
import type { TrainerWorker } from '../trainer/client.ts';
import type { DeviceReport, Problem, Trainer } from '../trainer/types.ts';
import type { RunStorage } from '../trainer/worker-api.ts';
import { insecureContext, problemOf } from './problems.ts';

const insecure: DeviceReport = {
  name: 'this browser',
  isSoftware: false,
  features: [],
  probeTokensPerSecond: 0,
  problem: insecureContext,
};

export class Gpu {
  #worker: TrainerWorker | null = null;
  #report: Promise<DeviceReport> | null = null;

  get storage(): RunStorage {
    return this.#started().storage;
  }

  get trainer(): Trainer {
    return this.#started().trainer;
  }

  /** Never rejects: what stands in the way is in the report's `problem`. */
  check(): Promise<DeviceReport> {
    if (!isSecureContext) return Promise.resolve(insecure);
    this.#report ??= this.#started()
      .trainer.check()
      .catch((error: unknown) => ({ ...insecure, problem: problemOf(error) }));
    return this.#report;
  }

  /** Calls back once when the GPU that is open now goes away. */
  whenLost(callback: (reason: Problem) => void): void {
    const worker = this.#started();
    void worker.trainer.whenLost().then((reason) => {
      if (this.#worker === worker) callback(reason);
    });
  }

  /** A fresh worker and a fresh check; everything the old one held is gone. */
  restart(): Promise<DeviceReport> {
    const old = this.#worker;
    this.#worker = null;
    this.#report = null;
    old?.terminate();
    return this.check();
  }

  #started(): TrainerWorker {
    this.#worker ??= startTrainerWorker();
    return this.#worker;
  }
}
