/**
 * How much of the speed of many devices a room has on slow links: the real state machines and codecs in the simulator, with a tiny
 * model whose bytes weigh what a large one's would. Every machine sends and receives at one rate each way, the coordinator too.
 */
import { codecOf } from '../../src/codec/index.ts';
import type { CodecName } from '../../src/codec/index.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { Simulation } from '../room/simulator.ts';
import { inCodec, tinyRun } from '../room/tiny-run.ts';
import type { Table } from './benchmark.ts';

const codecs: readonly CodecName[] = ['fp32', 'bf16', 'int8'];
const mbits = [100, 10, 1];
const parameterCounts = [1e6, 1e7];
const peerCounts = [4, 16, 30, 64];
const microbatchesPerPeer = 2;
/** Rows of 128 tokens, with ids, targets and weights. */
const bytesPerMicrobatch = 8 * 128 * 12;
const seed = 1;
const readyWithinMs = 600_000;
/** Until shares follow the speeds that are measured on these links. */
const firstSteps = 6;

export const options = { seconds: 1, steps: 8, peers: 0 };

interface Case {
  readonly codec: CodecName;
  readonly peers: number;
  readonly parameters: number;
  readonly mbit: number;
  readonly secondsPerStep: number;
  readonly steps: number;
}

/** The time of a step if nothing but computing took any, by the mean time of the last steps. */
async function shareOfIdeal({ codec, peers, parameters, mbit, secondsPerStep, steps }: Case): Promise<number> {
  const run = inCodec(tinyRun(seed, 100_000, microbatchesPerPeer * peers), codec);
  const room = new Simulation({ seed, run, undisturbed: new Array<number>(100_000).fill(0), countsOnly: true, checkpointEverySteps: 0 });
  const settings = { msPerMicrobatch: (secondsPerStep * 1000) / microbatchesPerPeer };
  await room.lead('peer 0', { ...settings, startPaused: true });
  for (let peer = 1; peer < peers; peer += 1) room.join(`peer ${peer}`, settings);
  await room.until('all are ready', readyWithinMs, () => room.coordinator.view.peers.filter(({ state }) => state === 'ready').length === peers);
  room.coordinator.dispatch({ type: 'command', command: 'resume' });
  await room.until('somebody follows', readyWithinMs, () => room.coordinator.view.peers.some(({ succession }) => succession === 'ready'));
  const { totalElements } = parameterLayoutOf(run.settings.model);
  const heavier = parameters / totalElements;
  room.world.network.capacity = {
    bytesPerMs: (mbit * 1e6) / 8 / 1000,
    weigh: (header, bytes) => (kindOf(header) === 'assignment' ? bytesPerMicrobatch * microbatchesPerPeer : bytes * heavier),
  };
  const patienceMs = 1000 * (secondsPerStep + (3 * peers * codecOf(codec).byteLength(Math.round(parameters / 64) * 64) * 8) / (mbit * 1e6));
  const { step } = room.coordinator.view;
  const stepDone = (after: number): Promise<void> => room.until(`step ${step + after}`, 20 * after * patienceMs, () => room.coordinator.view.step >= step + after);
  await stepDone(firstSteps);
  await stepDone(firstSteps + steps);
  const times = room.coordinator.view.history.slice(-steps).map(({ ms }) => ms);
  return (secondsPerStep * 1000 * times.length) / times.reduce((sum, ms) => sum + ms, 0);
}

function kindOf(header: unknown): unknown {
  return typeof header === 'object' && header !== null && 'kind' in header ? header.kind : null;
}

export async function run({ seconds, steps, peers }: typeof options): Promise<readonly Table[]> {
  const rows: string[][] = [];
  const counts = peers > 0 ? [peers] : peerCounts;
  for (const parameters of parameterCounts) {
    for (const count of counts) {
      const row = [`${parameters / 1e6} M, ${count} peers`];
      for (const mbit of mbits) for (const codec of codecs) row.push((await shareOfIdeal({ codec, peers: count, parameters, mbit, secondsPerStep: seconds, steps })).toFixed(3));
      rows.push(row);
    }
  }
  const columns = ['room', ...mbits.flatMap((mbit) => codecs.map((codec) => `${codec} ${mbit}`))];
  const notes = [`share of the speed of as many devices whose links take no time; Mbit/s each way for each machine; ${seconds} s of computing in a step, star`];
  return [{ title: 'rooms on slow links', columns, rows, notes }];
}
