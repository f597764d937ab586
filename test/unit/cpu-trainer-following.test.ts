/** The simulator's trainer keeps a successor's moments as the page's does. */
import { followingContract } from '../following-contract.ts';
import { CpuTrainer } from '../room/cpu-trainer.ts';

for (const seed of [1, 5]) followingContract(`the CPU, sizes of seed ${seed}`, seed, (settings) => Promise.resolve(new CpuTrainer(settings, new Map())));
