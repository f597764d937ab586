/**
 * How long a room stands still when the browser that leads it is killed: real Chromium, one process for each peer, four peers.
 * That no step is lost is counted here too; test/e2e/hand-off.spec.ts demands it.
 */
import playwrightConfig from '../../../playwright.config.ts';
import { Random } from '../../room/random.ts';
import { BrowserRoom, endlessRun } from '../../e2e/browser-room.ts';
import type { HandOff } from '../../e2e/browser-room.ts';
import { startServer } from '../../e2e/server.ts';
import { median } from '../benchmark.ts';
import type { Table } from '../benchmark.ts';

const peers = 4;
/** Kills fall at any moment of a step. */
const longestDelayMs = 1_500;

/** Steps that somebody had seen, and that the new leader lacks or has otherwise. */
function stepsLost({ seen, after }: HandOff): number {
  return seen.history.filter((point, step) => JSON.stringify(after.history[step]) !== JSON.stringify(point)).length;
}

export async function handOffs(kills: number): Promise<Table> {
  const server = await startServer();
  const room = new BrowserRoom({ url: server.url, launchOptions: playwrightConfig.use?.launchOptions ?? {}, run: endlessRun });
  const random = new Random(1);
  const measured: HandOff[] = [];
  try {
    await room.open(peers);
    while (measured.length < kills) {
      const handOff = await room.handOff(random.between(0, longestDelayMs));
      measured.push(handOff);
      await Promise.all([room.reunion(handOff), ...(measured.length < kills ? [room.another()] : [])]);
    }
  } finally {
    await room.close();
    await server.stop();
  }
  const resumedSeconds = measured.map(({ resumedMs }) => resumedMs / 1000);
  const stepMs = measured.flatMap(({ before }) => before.history.slice(-20).map(({ ms }) => ms));
  return {
    title: 'Killing the browser that leads',
    notes: [
      `${peers} Chromium processes on this machine; from SIGKILL to the first new step under another leader`,
      `a step took ${median(stepMs).toFixed(0)} ms (median) before the kills`,
    ],
    columns: ['kills', 'median s', 'worst s', 'best s', 'steps lost'],
    rows: [
      [
        String(measured.length),
        median(resumedSeconds).toFixed(1),
        Math.max(...resumedSeconds).toFixed(1),
        Math.min(...resumedSeconds).toFixed(1),
        String(measured.reduce((sum, handOff) => sum + stepsLost(handOff), 0)),
      ],
    ],
  };
}
