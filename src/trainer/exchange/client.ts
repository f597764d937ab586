/** The page's side of the files' worker. Ending it is how work under way is cancelled: nothing half-written stays. */
import { proxy, transfer, wrap } from 'comlink';
import { ModelFileError } from '../../checkpoint/bytes.ts';
import { Failure } from '../failure.ts';
import type { FilesApi } from './files-api.ts';

export interface FilesWorker extends FilesApi {
  /** Calls under way are rejected with `reason`. */
  terminate(reason: Error): void;
}

export function startFilesWorker(): FilesWorker {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'cotrain-files' });
  const remote = wrap<FilesApi>(worker);
  const failure = new Failure();
  worker.addEventListener('error', (event) => {
    failure.fail(new ModelFileError(`the worker for files ended: ${event.message}`));
    worker.terminate();
  });
  return {
    open: (files) => failure.guard(remote.open(files)),
    readWeights: (onProgress) => failure.guard(remote.readWeights(proxy(onProgress))),
    keepRun: (record) => failure.guard(remote.keepRun(record)),
    write: (request, onProgress) => failure.guard(remote.write(transfer(request, buffersIn(request.state)), proxy(onProgress))),
    terminate(reason) {
      worker.terminate();
      failure.fail(reason);
    },
  };
}

function buffersIn(state: object): ArrayBuffer[] {
  return Object.values(state).filter((value): value is ArrayBuffer => value instanceof ArrayBuffer);
}
