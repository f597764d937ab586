/** The optimizer that a run's settings ask for: what turns sums of gradients into steps of the weights. */
import type { Engine, LayoutEntry, ParameterLayout } from '../engine/index.ts';
import { AdamW } from './adamw.ts';
import type { UpdatedRegions } from './adamw.ts';
import { Muon, muonDefaults } from './muon.ts';
import type { OptimizerSettings } from './types.ts';

export type GradientOptimizer = AdamW | Muon;

/** `isMatrix`: what of the layout Muon is for. */
export function createGradientOptimizer(
  engine: Engine,
  layout: ParameterLayout,
  updated: UpdatedRegions,
  settings: OptimizerSettings,
  isMatrix: (entry: LayoutEntry) => boolean,
): Promise<GradientOptimizer> {
  return settings.method === 'muon' ? Muon.create(engine, layout, updated, { ...muonDefaults, ...settings }, isMatrix) : AdamW.create(engine, layout, updated, settings);
}
