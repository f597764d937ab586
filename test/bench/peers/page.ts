/** The page of one contestant: opens the engine it is told to and trains when it is told to. Measures nothing else. */
import { openJax } from './jax.ts';
import { matmulRate } from './matmul-rate.ts';
import type { AdapterRate } from './matmul-rate.ts';
import { adapterName, openOurs } from './ours.ts';
import type { Contestant, Task, TrainedSteps } from './task.ts';
import { openTensorFlow } from './tfjs.ts';

export type Choice =
  | { readonly engine: 'ours'; readonly rowsPerMicrobatch: number }
  | { readonly engine: 'jax-webgpu' | 'jax-wasm' | 'tfjs' };

interface PeersPage {
  /** Resolves to the contestant's adapter. */
  open(choice: Choice, task: Task): Promise<string>;
  train(steps: number): Promise<TrainedSteps>;
  /** Of the adapter that pages get. */
  matmulRate(): Promise<AdapterRate>;
}

declare global {
  interface Window {
    peersPage: PeersPage;
  }
}

function openContestant(choice: Choice, task: Task): Promise<Contestant> {
  switch (choice.engine) {
    case 'ours':
      return openOurs(task, choice.rowsPerMicrobatch);
    case 'jax-webgpu':
      return openJax(task, 'webgpu');
    case 'jax-wasm':
      return openJax(task, 'wasm');
    case 'tfjs':
      return openTensorFlow(task);
  }
}

let contestant: Contestant | null = null;

window.peersPage = {
  async open(choice, task) {
    contestant = await openContestant(choice, task);
    return contestant.adapter;
  },
  train(steps) {
    if (contestant === null) throw new Error('no contestant is open');
    return contestant.train(steps);
  },
  async matmulRate() {
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (adapter === null) throw new Error('this browser offers no WebGPU adapter');
    return { adapter: adapterName(adapter.info), gigaflops: await matmulRate(navigator.gpu) };
  },
};
