/**
 * Joins, crashes, hangs, partitions, clocks that differ, reordering, duplicates, slow links and peers, lost GPUs, reloads,
 * outages and restarts of the directory, with and without its disk, and deaths of whoever leads. The ledger fails a simulation in which a micro-batch
 * is lost or counted twice, a step is announced twice or out of order, a named successor leads without a step that was
 * announced, two lead under one term, replicas of a step differ, or a loss is not the undisturbed run's. Several test files
 * share the seeds, so that they run on several cores.
 */
import { expect } from 'vitest';
import type { CodecChoice } from '../../src/codec/index.ts';
import { simulateFaults } from './faults.ts';
import { seeds } from './simulator.ts';
import type { Simulation } from './simulator.ts';
import { inCodec, sharedRun } from './tiny-run.ts';

const steps = 24;
/** In CI; `ROOM_SEEDS=200000` for a long night. */
const seedsInAll = Number(process.env['ROOM_SEEDS'] ?? 2_000);
export const faultFiles = 4;
export const faultsTestMs = 1_000 * seedsInAll;

/** Seeds that ever failed, whatever the number of seeds; all of them on servers that forget. */
export const onceFailed = [25, 74, 80, 123, 207, 280, 323, 365, 782, 1814, 3749, 4176, 4389, 5939, 9520, 11474, 11767, 13428, 14606, 100_680, 104_898, 600_586, 605_234, 607_768, 608_954, 709_489, 725_097] as const;

/** The same when they found a new way to fail with the owner's orders. */
export const onceFailedWithOrders: readonly number[] = [601_687, 604_614, 614_773, 632_215, 701_172, 702_919, 709_229, 746_478, 809_742, 1_010_079, 1_123_773];

interface Circumstances {
  readonly hasOrders: boolean;
  readonly forgets: boolean;
  readonly codec: CodecChoice;
  readonly localSteps: number;
  /** Of members that could, from which on updates go through some of them. */
  readonly relaysFrom: number | null;
}

/** What a lossy codec drops depends on who computes, and a run of so few parameters shows it. Replicas are equal all the same. */
const lossTolerance = { fp32: 1e-4, bf16: 0.05, int8: 0.3, int2: 1, auto: 0.3 } as const;
/** What peers learn alone depends on who has which share. */
const localLossTolerance = 1;

async function simulate(seed: number, { codec, localSteps, ...circumstances }: Circumstances): Promise<Simulation> {
  const { run, undisturbed } = await sharedRun(seed, steps, localSteps);
  return simulateFaults({ seed, ...circumstances, run: inCodec(run, codec), undisturbed, lossTolerance: localSteps > 1 ? localLossTolerance : lossTolerance[codec] });
}

async function survives(seed: number, circumstances: Circumstances): Promise<void> {
  const { hasOrders } = circumstances;
  const room = await simulate(seed, circumstances);
  const { view } = room.coordinator;
  if (!hasOrders) expect(view.steps).toBe(steps);
  expect(room.world.ledger.announcedSteps, `steps announced with seed ${seed}`).toBe(view.steps);
}

/**
 * In every fourth room its owner gives orders, which makes gradients of its own and takes time; every fourth server forgets
 * everything when it is restarted; every eighth room's codec is lossy, every sixteenth
 * chooses, and in nearly as many peers take local steps. In every second room members forward updates to each other.
 */
function circumstancesOf(seed: number): Circumstances {
  const codec = seed % 16 === 7 ? 'int8' : seed % 32 === 15 ? 'bf16' : seed % 32 === 31 ? 'int2' : seed % 16 === 11 ? 'auto' : 'fp32';
  return { hasOrders: (seed >> 2) % 4 === 1, forgets: (seed >> 4) % 4 === 1, codec, localSteps: seed % 16 === 3 || [7, 27, 31].includes(seed % 32) ? 2 : 1, relaysFrom: (seed >> 5) % 2 === 0 ? null : 2 };
}

/** The seeds of one of the files. */
export async function surviveSeeds(file: number): Promise<void> {
  for (const seed of seeds(seedsInAll)) if (seed % faultFiles === file) await survives(seed, circumstancesOf(seed));
}

export async function surviveSeedsThatFailed(): Promise<void> {
  for (const seed of onceFailed) await survives(seed, { hasOrders: false, forgets: true, codec: 'fp32', localSteps: 1, relaysFrom: null });
  for (const seed of onceFailedWithOrders) await survives(seed, { hasOrders: true, forgets: true, codec: 'fp32', localSteps: 1, relaysFrom: null });
}

export async function timelineOf(seed: number): Promise<readonly string[]> {
  return (await simulate(seed, circumstancesOf(seed))).world.log.lines;
}
