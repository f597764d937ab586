/** Optimizer settings, under the run file's names (DESIGN §5). */
export interface OptimizerSettings {
  readonly learningRate: number;
  readonly minLearningRate: number;
  readonly warmupSteps: number;
  readonly schedule: 'cosine' | 'linear' | 'constant';
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Largest global gradient norm; 0 means no clipping. */
  readonly gradientClip: number;
  /** With local steps: what the room's step makes of the mean of all changes. Default: `outerDefaults`. */
  readonly outerLearningRate?: number;
  readonly outerMomentum?: number;
  /** `muon`: matrices inside the layers take orthogonalized steps, all else AdamW's. Default `adamw`. */
  readonly method?: 'adamw' | 'muon';
  /** Muon's; default: `muonDefaults`. `matrixRate`: the learning rate of those matrices, in multiples of `learningRate`. */
  readonly momentum?: number;
  readonly matrixRate?: number;
}
