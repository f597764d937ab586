/** What a room's safety costs. Each section has a file in `room/`. */
import type { Table } from './benchmark.ts';
import { warmSuccessor } from './room/successor.ts';

export async function run(): Promise<readonly Table[]> {
  return [await warmSuccessor()];
}
