/** What a run takes on the GPU, part by part, for a person whose GPU has not enough. It allocates nothing. */
import type { Engine, Graph } from '../engine/index.ts';
import { EngineError } from '../engine/index.ts';
import { parameterLayoutOf } from '../model/parameters.ts';
import { hasLocalSteps, masterPartsOf } from './types.ts';
import type { TrainerSettings } from './types.ts';

/** Sums of own and of others' gradients. */
const sumsOfCoordinator = 2;
/** Weights on which they are taken, and two moments. */
const flatBuffersOfLocalSteps = 3;
/** What Muon has made orthogonal, beside the moments of whoever takes its steps. */
const flatBuffersOfMuon = 1;
const bytesPerElement = 4;
const bytesPerMebibyte = 2 ** 20;

/** In one line. Activations are left out where they can't be planned, because one of them alone is too large. */
export function memoryTable(engine: Pick<Engine, 'activationBytes'>, settings: TrainerSettings, graph: Graph): string {
  const flatBytes = parameterLayoutOf(settings.model).totalElements * bytesPerElement;
  const mebibytes = (bytes: number): string => `${Math.ceil(bytes / bytesPerMebibyte).toLocaleString('en')} MiB`;
  const parts = [`weights ${mebibytes(flatBytes)}`, `gradients ${mebibytes(flatBytes)}`];
  const ofMethod = settings.optimizer.method === 'muon' ? flatBuffersOfMuon : 0;
  const isLocal = hasLocalSteps(settings);
  if (isLocal) parts.push(`local steps ${mebibytes((flatBuffersOfLocalSteps + ofMethod) * flatBytes)}`);
  const flatBuffersOfCoordinator = sumsOfCoordinator + masterPartsOf(settings).length + (isLocal ? 0 : ofMethod);
  const activations = plannedBytes(engine, graph);
  if (activations !== null) parts.push(`activations ${mebibytes(activations)}`);
  return `${parts.join(', ')}, and ${mebibytes(flatBuffersOfCoordinator * flatBytes)} more where it coordinates`;
}

function plannedBytes(engine: Pick<Engine, 'activationBytes'>, graph: Graph): number | null {
  try {
    return engine.activationBytes(graph);
  } catch (error) {
    if (error instanceof EngineError) return null;
    throw error;
  }
}
