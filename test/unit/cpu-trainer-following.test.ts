/** The simulator's trainer keeps a successor's moments as the page's does. */
import { followingContract } from '../following-contract.ts';
import { CpuTrainer } from '../room/cpu-trainer.ts';
import type { TrainerSettings } from '../../src/trainer/types.ts';

const open = (settings: TrainerSettings): Promise<CpuTrainer> => Promise.resolve(new CpuTrainer(settings, new Map()));

for (const seed of [1, 5]) followingContract(`the CPU, sizes of seed ${seed}`, seed, open);
followingContract('the CPU', 1, open, undefined, { codec: 'int8' });
followingContract('the CPU', 1, open, undefined, { localSteps: 2 });
followingContract('the CPU', 1, open, undefined, { codec: 'auto', localSteps: 2 });
followingContract('the CPU', 1, open, undefined, { codec: 'auto' });
