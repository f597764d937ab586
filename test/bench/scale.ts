/**
 * How much of the speed of many devices a room has on slow links: the real state machines and codecs in the simulator, with a tiny
 * model whose bytes weigh what a large one's would. Every machine sends and receives at one rate each way, the coordinator too. Updates
 * come from the coordinator alone (star) or through members (tree).
 */
import { codecOf } from '../../src/codec/index.ts';
import type { CodecName } from '../../src/codec/index.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { fewestForRelays } from '../../src/room/limits.ts';
import { Simulation } from '../room/simulator.ts';
import type { GradientMemo, MemorizedGradient } from '../room/cpu-trainer.ts';
import { inCodec, tinyRun } from '../room/tiny-run.ts';
import type { Table } from './benchmark.ts';

/** How weights and changes are sent, and how many steps devices take alone in between. */
interface Mode {
  readonly codec: CodecName;
  readonly localSteps: number;
}

const modes: readonly Mode[] = [
  { codec: 'fp32', localSteps: 1 },
  { codec: 'int8', localSteps: 1 },
  { codec: 'int8', localSteps: 30 },
  { codec: 'int2', localSteps: 30 },
];
const mbits = [1, 10, 100];
const parameterCounts = [1e6, 1e7];
const peerCounts = [4, 16, 30, 64];
/** In a step; with local steps there are more, and shares can be finer. */
const microbatchesPerPeerAlone = 2;
const microbatchesPerPeerTogether = 20;
/** Rows of 128 tokens, a byte each, and two runs of loss weights. */
const bytesPerMicrobatch = 8 * (128 + 16);
const seed = 1;
/** As the session cuts them. */
const piecesPerUpdate = 64;
const readyWithinMs = 600_000;
/** Until shares follow the speeds that are measured on these links. */
const firstSteps = 10;

/** 0: all of them. */
export const options = { seconds: 1, steps: 8, peers: 0, millions: 0, mbit: 0 };

interface Case extends Mode {
  readonly peers: number;
  readonly parameters: number;
  readonly mbit: number;
  readonly secondsPerStep: number;
  readonly isTree: boolean;
  readonly steps: number;
}

/** The time of a step if nothing but computing took any, by the mean time of the last steps. */
export async function shareOfIdeal({ isTree, codec, localSteps, peers, parameters, mbit, secondsPerStep: secondsAlone, steps }: Case): Promise<number> {
  const microbatchesPerPeer = localSteps > 1 ? microbatchesPerPeerTogether : microbatchesPerPeerAlone;
  // The weights are those of a run without local steps: only what is sent and when makes a difference here.
  const run = { ...inCodec(tinyRun(seed, 100_000, microbatchesPerPeer * peers), codec), memo: anyGradient() };
  const secondsPerStep = secondsAlone * localSteps;
  const rowBytesPerPeer = bytesPerMicrobatch * microbatchesPerPeerAlone * localSteps;
  const room = new Simulation({ seed, run, undisturbed: new Array<number>(100_000).fill(0), countsOnly: true, checkpointEverySteps: 0, relaysFrom: isTree ? fewestForRelays : null, piecesPerUpdate });
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
    weigh: (header, bytes) => (kindOf(header) === 'assignment' ? rowBytesPerPeer : kindOf(header) === 'updateHashes' ? bytes : bytes * heavier),
  };
  const patienceMs = 1000 * (secondsPerStep + (3 * peers * codecOf(codec).byteLength(Math.round(parameters / 64) * 64) * 8) / (mbit * 1e6));
  const { step } = room.coordinator.view;
  const stepDone = (after: number): Promise<void> => room.until(`step ${step + after}`, 20 * after * patienceMs, () => room.coordinator.view.step >= step + after);
  await stepDone(firstSteps);
  await stepDone(firstSteps + steps);
  const times = room.coordinator.view.history.slice(-steps).map(({ ms }) => ms);
  return (secondsPerStep * 1000 * times.length) / times.reduce((sum, ms) => sum + ms, 0);
}

/** What a gradient is makes no difference either: the first one computed is everybody's. */
function anyGradient(): GradientMemo {
  const known = new Map<string, MemorizedGradient>();
  return { get: () => known.get('any'), set: (_, gradient) => (known.size > 0 ? known : known.set('any', gradient)) };
}

function kindOf(header: unknown): unknown {
  return typeof header === 'object' && header !== null && 'kind' in header ? header.kind : null;
}

const goals = [
  'goals (share of ideal speed): 30 peers with 1 M and 16 peers with 10 M parameters at 10 Mbit/s 0.9; 64 peers with 10 M at 10 Mbit/s 0.75; local steps at 1 Mbit/s 0.9',
] as const;

export async function run({ seconds, steps, peers, millions, mbit }: typeof options): Promise<readonly Table[]> {
  const rows: string[][] = [];
  const rates = mbit > 0 ? [mbit] : mbits;
  for (const parameters of millions > 0 ? [millions * 1e6] : parameterCounts) {
    for (const count of peers > 0 ? [peers] : peerCounts) {
      for (const rate of rates) {
        const row = [`${parameters / 1e6} M, ${count} peers, ${rate} Mbit/s`, (1 / count).toFixed(3)];
        for (const mode of modes) {
          const shareOf = (isTree: boolean): Promise<number> => shareOfIdeal({ ...mode, isTree, peers: count, parameters, mbit: rate, secondsPerStep: seconds, steps });
          row.push(`${(await shareOf(false)).toFixed(3)} / ${(await shareOf(true)).toFixed(3)}`);
        }
        rows.push(row);
      }
    }
  }
  const columns = ['room', 'coordinator alone', ...modes.map(({ codec, localSteps }) => `${codec}${localSteps > 1 ? ` ×${localSteps}` : ''}, star / tree`)];
  const notes = [`share of the speed of as many devices whose links take no time; Mbit/s each way for each machine; ${seconds} s of computing in a step; ×30: 30 local steps`, ...goals];
  return [{ title: 'rooms on slow links', columns, rows, notes }];
}
