/**
 * What a newcomer costs: from the click on “Join” to its first contribution in a committed step, part by part, and the
 * leader's steps meanwhile. Browser, page and landing screen are there before the click.
 */
import type { Page } from '@playwright/test';
import playwrightConfig from '../../../playwright.config.ts';
import type { SessionPhase, CreateSettings } from '../../../src/session/types.ts';
import { BrowserRoom, hasSuccessor, peersAtWork } from '../../e2e/browser-room.ts';
import type { BrowserPeer } from '../../e2e/browser-room.ts';
import { startServer } from '../../e2e/server.ts';
import { statusOf, statusWhen, untilStep } from '../../e2e/support.ts';
import { CannotRunError, median } from '../benchmark.ts';
import type { Table } from '../benchmark.ts';

const peersBefore = 2;
/** Of the leader alone with its member, before each join. */
const quietSteps = 15;
const askEveryMs = 10;
const run: CreateSettings = { preset: 'moby-dick', steps: 1_000_000, rowsPerStep: 4, rowsPerMicrobatch: 1, contextLength: 64, evalEvery: 0 };

interface Moment {
  /** Since the click. */
  readonly ms: number;
  /** Committed by the leader by then. */
  readonly step: number;
}

interface Join {
  /** Steps before the click that are compared with. */
  readonly quietMs: readonly number[];
  readonly clicked: Moment;
  readonly deviceChecked: Moment;
  readonly hasReplica: Moment;
  readonly counted: Moment;
  /** Of all the leader's steps. */
  readonly stepMs: readonly number[];
}

/** Resolves as soon as the page's phase is none of these. */
function pastPhases(page: Page, phases: readonly SessionPhase[]): Promise<unknown> {
  return page.waitForFunction((before) => !before.includes(window.cotrain.status().phase), phases, { polling: askEveryMs, timeout: 120_000 });
}

async function measureJoin(room: BrowserRoom, leader: BrowserPeer): Promise<Join> {
  const { page: lead } = leader;
  const guest = await room.launch();
  await guest.page.goto(room.link);
  const button = guest.page.getByTestId('join');
  await button.waitFor();
  const { step: before, peers } = await statusOf(lead);
  await untilStep(lead, before + quietSteps, 300_000);
  const known = peers.map(({ id }) => id);
  const clickedAtMs = performance.now();
  const moment = async (): Promise<Moment> => {
    const ms = performance.now() - clickedAtMs;
    return { ms, step: await lead.evaluate(() => window.cotrain.status().step) };
  };
  const clicked = await moment();
  await button.click();
  await pastPhases(guest.page, ['idle', 'checking-device']);
  const deviceChecked = await moment();
  await pastPhases(guest.page, ['idle', 'checking-device', 'preparing', 'finding-room', 'connecting', 'fetching-replica', 'reconnecting']);
  const hasReplica = await moment();
  await lead.waitForFunction(
    (ids) => window.cotrain.status().peers.some(({ id, microbatches }) => microbatches > 0 && !ids.includes(id)),
    known,
    { polling: askEveryMs, timeout: 120_000 },
  );
  const counted = await moment();
  const { history } = await untilStep(lead, counted.step + 1);
  const stepMs = history.map(({ ms }) => ms);
  await guest.page.evaluate(() => window.cotrain.leave());
  await room.dismiss(guest);
  return { quietMs: stepMs.slice(before, clicked.step), clicked, deviceChecked, hasReplica, counted, stepMs };
}

function row(what: string, joins: readonly Join[], ms: ((join: Join) => number) | null, steps: (join: Join) => readonly number[]): readonly string[] {
  const times = ms === null ? [] : joins.map(ms);
  const stepMs = joins.flatMap(steps);
  const figures = (values: readonly number[]): readonly string[] => (values.length === 0 ? ['', ''] : [median(values).toFixed(0), Math.max(...values).toFixed(0)]);
  return [what, ...figures(times), String(stepMs.length), ...figures(stepMs)];
}

export async function joinTimes(count: number): Promise<Table> {
  const server = await startServer();
  const room = new BrowserRoom({ url: server.url, launchOptions: playwrightConfig.use?.launchOptions ?? {}, run });
  const joins: Join[] = [];
  try {
    await room.open(peersBefore);
    const leader = await room.leader();
    await statusWhen(leader.page, 'all at work', (status) => peersAtWork(status) === peersBefore && hasSuccessor(status), 120_000);
    while (joins.length < count) joins.push(await measureJoin(room, leader));
  } finally {
    await room.close();
    await server.stop();
  }
  if (joins.length === 0) throw new CannotRunError('nobody was asked to join');
  /** The step in which `to` fell belongs to what came before it. */
  const between = (from: keyof Pick<Join, 'clicked' | 'deviceChecked' | 'hasReplica'>, to: 'deviceChecked' | 'hasReplica' | 'counted') => (join: Join) =>
    join.stepMs.slice(join[from].step, join[to].step);
  const wait = median(joins.map(({ hasReplica, counted }) => counted.step - hasReplica.step));
  return {
    title: 'Joining a running room',
    notes: [
      `${joins.length} joins, one after another, a new browser process each, room of ${peersBefore}, Moby-Dick preset (0.9 M parameters), 4 × 64 tokens a step`,
      'all browsers share this machine: what the newcomer computes, its device check above all, slows the others down here and only here',
      `from having the weights to the end of the step that counted its first contribution the leader committed ${wait} steps (median)`,
    ],
    columns: ['from the click on', 'median ms', 'worst ms', 'steps meanwhile', 'median ms', 'worst ms'],
    rows: [
      row('(before the click)', joins, null, ({ quietMs }) => quietMs),
      row('to the device checked', joins, ({ deviceChecked }) => deviceChecked.ms, between('clicked', 'deviceChecked')),
      row('to having the weights', joins, ({ hasReplica }) => hasReplica.ms, between('deviceChecked', 'hasReplica')),
      row('to the first contribution counted', joins, ({ counted }) => counted.ms, between('hasReplica', 'counted')),
    ],
  };
}
