/** Entry of the dedicated worker that trains: opens the GPU and the checkpoint store, and answers the page. */
import { expose } from 'comlink';
import { openBestWeights } from '../checkpoint/best-weights.ts';
import { openSettings } from '../checkpoint/settings.ts';
import { openCheckpointStore } from '../checkpoint/store.ts';
import { deviceName } from './device-name.ts';
import { keepProblemsOfErrors } from './error-transfer.ts';
import { createGpuTrainer } from './gpu-trainer.ts';
import { settingsTuningStore } from './tuning-store.ts';
import { storageOf, workerApi } from './worker-api.ts';

keepProblemsOfErrors();
const trainer = createGpuTrainer({
  // Absent in browsers without WebGPU and in insecure contexts, though typed as always present.
  gpu: 'gpu' in navigator ? navigator.gpu : null,
  nameDevice: (adapter) => deviceName(adapter, navigator),
  engineOptions: { tuning: { store: settingsTuningStore(openSettings()) } },
});
expose(workerApi(trainer, storageOf(trainer, () => openCheckpointStore(), openBestWeights())));
