/** Learning rates, AdamW, sums of contributions and the replica's fingerprint. */
export type { AdamWCommit, UpdateResult, AdamWSettings } from './adamw-rule.ts';
export type { OptimizerSettings } from './types.ts';
export { AdamW } from './adamw.ts';
export { createGradientOptimizer } from './gradient-optimizer.ts';
export type { GradientOptimizer } from './gradient-optimizer.ts';
export { Muon, muonDefaults } from './muon.ts';
export { MuonReference } from './muon-reference.ts';
export { AdamWReference } from './adamw-reference.ts';
export { OuterMomentum, outerDefaults } from './outer-momentum.ts';
export { OuterMomentumReference } from './outer-momentum-reference.ts';
export { ContributionAdder, uncheckedAdder } from './contribution.ts';
export { flatCopy } from './flat-copy.ts';
export { GradientScaler } from './gradient-scale.ts';
export { ReplicaHash, replicaHashOf } from './replica-hash.ts';
export { learningRateAt, localLearningRateAt, scheduleAt } from './schedule.ts';
export type { ScheduleChange } from './schedule.ts';
