/** Entry of the dedicated worker that trains: opens the GPU and the checkpoint store, and answers the page. */
import { expose } from 'comlink';
import { openCheckpointStore } from '../checkpoint/store.ts';
import { deviceName } from './device-name.ts';
import { keepProblemsOfErrors } from './error-transfer.ts';
import { createGpuTrainer } from './gpu-trainer.ts';
import { storageOf, workerApi } from './worker-api.ts';

keepProblemsOfErrors();
const trainer = createGpuTrainer({
  // Typed as always present; absent in browsers without WebGPU and in insecure contexts.
  gpu: (navigator.gpu as GPU | undefined) ?? null,
  nameDevice: (adapter) => deviceName(adapter, navigator),
});
expose(workerApi(trainer, storageOf(trainer, () => openCheckpointStore())));
