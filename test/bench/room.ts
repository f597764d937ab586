/** What a room's safety costs, and how long it stands still. Each section has a file in `room/`. */
import { buildStale } from '../../tools/build.mjs';
import type { Table } from './benchmark.ts';
import { handOffs } from './room/hand-offs.ts';
import { joinTimes } from './room/joins.ts';
import { warmSuccessor } from './room/successor.ts';

/** 0 leaves a section out. */
export const options = { kills: 20, joins: 5, successor: 1 };

export async function run({ kills, joins, successor }: typeof options): Promise<readonly Table[]> {
  await buildStale(['client', 'server']);
  const tables: Table[] = [];
  if (kills > 0) tables.push(await handOffs(kills));
  if (joins > 0) tables.push(await joinTimes(joins));
  // Last: this process keeps the GPU's threads.
  if (successor > 0) tables.push(await warmSuccessor());
  return tables;
}
