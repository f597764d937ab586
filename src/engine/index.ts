/** The engine's public face. Everything else in this folder is its own affair. */
export type {
  CompileOptions,
  DirectDispatch,
  DispatchTiming,
  Engine,
  EngineCounters,
  FlatMemory,
  Memory,
  Program,
  ProgramStats,
  Region,
  Sequence,
} from './engine.ts';
export type { EngineOptions } from './device.ts';
export type { FlatSpan, LayoutEntry, ParameterLayout } from './layout.ts';
export type { AdapterProfile, DType, FloatType, Shape, Tensor } from './op.ts';
export type { TuningOptions, TuningStore } from './tuning.ts';
export { openEngine } from './device.ts';
export { EngineError, type EngineErrorCode } from './errors.ts';
export { elementCount, Graph } from './graph.ts';
export { flatRanges, partOf } from './flat-ranges.ts';
export type { FlatRange } from './flat-ranges.ts';
export { partsOf, regionOf, sliceOf } from './memory.ts';
export { mixed } from './mix.ts';
export { alignmentElements, parameterLayout } from './layout.ts';
export { valueAndGrad } from './autodiff.ts';
export { interpret } from './interpreter.ts';
export { compileInspection } from './inspect.ts';
export type { HostInputs, InspectedNode, Inspection } from './inspect.ts';
export type { HostValues, Interpretation } from './interpreter.ts';
