/**
 * `npm run bench -- soak --minutes 60`: a room of browsers in which every twenty seconds somebody dies, leaves, reloads or joins. Do
 * memory and handles stay flat, is every step announced once and in order, and is the loss that of a quiet run? Prints as it
 * goes, so that a soak that is broken off says something, too. Not here: how fast anything is.
 */
import playwrightConfig from '../../playwright.config.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { buildStale } from '../../tools/build.mjs';
import { Random } from '../room/random.ts';
import { BrowserRoom, hasSuccessor, peersAtWork } from '../e2e/browser-room.ts';
import type { BrowserPeer } from '../e2e/browser-room.ts';
import { startServer } from '../e2e/server.ts';
import type { RunningServer } from '../e2e/server.ts';
import { statusOf, statusWhen } from '../e2e/support.ts';
import { CannotRunError, formatTable } from './benchmark.ts';
import type { Table } from './benchmark.ts';
import { Ledger } from './soak/ledger.ts';
import { differencesOf, lossTable, sampleTables, troubleTable } from './soak/tables.ts';
import { makeTrouble } from './soak/trouble.ts';
import type { Trouble } from './soak/trouble.ts';
import { hasProc, pageVitals, serverVitals, watchRtc } from './soak/vitals.ts';
import type { PageSample, Sample } from './soak/vitals.ts';

/** `workers` compute, one more or one fewer at times; one page more watches. */
export const options = { minutes: 60, workers: 3, seed: 1, everySeconds: 20 };

const sampleEveryMs = 60_000;
const startTimeoutMs = 120_000;
const quietReportMs = 30_000;
/** Relative, at any step. */
const largestDifference = 1e-4;
/**
 * A learning rate that stays, so that the run has no end to come to. With AdamW's usual epsilon the order of sums alone, on one
 * adapter, moves losses by 1.7 % within 900 steps, and a lost micro-batch would hide in that; with this one by less than 1e-6.
 */
const settings: CreateSettings = {
  preset: 'moby-dick',
  steps: 1_000_000,
  rowsPerStep: 6,
  rowsPerMicrobatch: 1,
  contextLength: 64,
  evalEvery: 0,
  model: { hidden_size: 64, intermediate_size: 128, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2, head_dim: 32 },
  optimizer: { schedule: 'constant', learningRate: 5e-4, minLearningRate: 5e-4, epsilon: 1e-3 },
};

interface Soaked {
  readonly troubles: readonly Trouble[];
  readonly samples: readonly Sample[];
  readonly ledger: Ledger;
  /** Null: it went on to the end. */
  readonly brokenBy: string | null;
}

class Soak {
  readonly #room: BrowserRoom;
  readonly #server: RunningServer;
  readonly #startedMs = performance.now();
  /** Of pages that were not there from the beginning, or have been loaded again. */
  readonly #bornMs = new Map<string, number>();
  readonly #ledger = new Ledger();
  readonly #troubles: Trouble[] = [];
  readonly #samples: Sample[] = [];

  constructor(room: BrowserRoom, server: RunningServer) {
    this.#room = room;
    this.#server = server;
  }

  async run(observer: BrowserPeer, { minutes, workers, seed, everySeconds }: typeof options): Promise<Soaked> {
    const random = new Random(seed);
    const endMs = minutes * 60_000;
    let [nextTroubleMs, nextSampleMs] = [everySeconds * 1000, 0];
    let brokenBy: string | null = null;
    try {
      for (let nextMs = 0; nextMs <= endMs; nextMs = Math.min(nextTroubleMs, nextSampleMs)) {
        await new Promise((resolve) => setTimeout(resolve, nextMs - this.#nowMs));
        if (nextSampleMs <= nextMs) {
          nextSampleMs += sampleEveryMs;
          await this.#sample(observer);
        } else {
          nextTroubleMs = Math.max(nextTroubleMs, this.#nowMs - everySeconds * 1000) + everySeconds * 1000;
          await this.#trouble(observer, workers, random);
        }
      }
    } catch (error) {
      brokenBy = error instanceof Error ? error.message : String(error);
      this.#say(`broken off: ${brokenBy}`);
    }
    return { troubles: this.#troubles, samples: this.#samples, ledger: this.#ledger, brokenBy };
  }

  get #nowMs(): number {
    return performance.now() - this.#startedMs;
  }

  async #trouble(observer: BrowserPeer, workers: number, random: Random): Promise<void> {
    const trouble = await makeTrouble({ room: this.#room, observer, workers, random });
    this.#troubles.push(trouble);
    const { kind, who, nextStepMs, after } = trouble;
    if (kind === 'joined' || kind.startsWith('reloaded')) this.#bornMs.set(who, this.#nowMs);
    this.#look(after.history);
    this.#say(`${who}: ${kind}; next step after ${(nextStepMs / 1000).toFixed(1)} s; step ${after.step}, term ${after.term}, loss ${after.loss?.toFixed(4)}`);
  }

  #look(history: Parameters<Ledger['look']>[0]): void {
    const before = this.#ledger.complaints.length;
    this.#ledger.look(history);
    for (const complaint of this.#ledger.complaints.slice(before)) this.#say(`WRONG: ${complaint}`);
  }

  async #sample(observer: BrowserPeer): Promise<void> {
    const { step, history } = await statusOf(observer.page);
    this.#look(history);
    const workers = this.#room.peers.filter((peer) => peer !== observer);
    const sample = {
      minute: this.#nowMs / 60_000,
      step,
      observer: await this.#samplePage(observer),
      workers: await Promise.all(workers.map((peer) => this.#samplePage(peer))),
      server: serverVitals(this.#server.pid),
    };
    this.#samples.push(sample);
    const heap = ({ name, vitals }: PageSample): string => `${name} ${vitals.heapMiB.toFixed(1)}`;
    this.#say(
      `sample at step ${step}: heaps ${[sample.observer, ...sample.workers].map(heap).join(', ')} MiB; ` +
        `observer ${sample.observer.vitals.nodes} nodes, ${sample.observer.vitals.listeners} listeners, resident ${sample.observer.vitals.residentMiB.toFixed(0)} MiB; ` +
        `server resident ${sample.server.residentMiB.toFixed(0)} MiB, ${sample.server.descriptors} descriptors`,
    );
  }

  async #samplePage(peer: BrowserPeer): Promise<PageSample> {
    const { role } = await statusOf(peer.page);
    const ageMinutes = (this.#nowMs - (this.#bornMs.get(peer.name) ?? 0)) / 60_000;
    return { name: peer.name, role, ageMinutes, vitals: await pageVitals(peer) };
  }

  #say(what: string): void {
    const seconds = Math.round(this.#nowMs / 1000);
    console.log(`${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, '0')}  ${what}`);
  }
}

/** One page alone, beside the soak: what the losses are when nothing happens. */
class QuietRun {
  readonly #room: BrowserRoom;

  constructor(url: string) {
    this.#room = new BrowserRoom({ url, launchOptions: playwrightConfig.use?.launchOptions ?? {}, run: settings });
  }

  async start(): Promise<void> {
    await this.#room.open(1);
  }

  /** As far as the soak came. */
  async losses(steps: number): Promise<readonly number[]> {
    const { page } = await this.#room.leader();
    for (;;) {
      const reached = page.waitForFunction((step) => window.cotrain.status().history.length >= step, steps, { timeout: quietReportMs, polling: 1000 });
      if (await reached.then(() => true, () => false)) break;
      console.log(`quiet run: step ${(await statusOf(page)).step} of ${steps}`);
    }
    return (await statusOf(page)).history.slice(0, steps).map(({ loss }) => loss);
  }

  close(): Promise<void> {
    return this.#room.close();
  }
}

export async function run(asked: typeof options): Promise<readonly Table[]> {
  if (!hasProc) throw new CannotRunError('the soak reads memory and descriptors from /proc, which only Linux has');
  await buildStale(['client', 'server']);
  const server = await startServer();
  const room = new BrowserRoom({ url: server.url, launchOptions: playwrightConfig.use?.launchOptions ?? {}, run: settings, before: watchRtc });
  const quietRun = new QuietRun(server.url);
  try {
    await room.open(asked.workers);
    const observer = await room.launch();
    await room.join(observer, true);
    await statusWhen(observer.page, 'all at work', (status) => peersAtWork(status) === asked.workers && hasSuccessor(status), startTimeoutMs);
    console.log(`${asked.workers} browsers at work, ${observer.name} watches; ${asked.minutes} minutes, seed ${asked.seed}`);
    await quietRun.start();
    const soaked = await new Soak(room, server).run(observer, asked);
    await room.close();
    const quiet = await quietRun.losses(soaked.ledger.losses.length);
    const tables = [troubleTable(soaked.troubles), ...sampleTables(soaked.samples), lossTable(soaked.ledger, quiet)];
    const wrong = [...(soaked.brokenBy === null ? [] : [soaked.brokenBy]), ...soaked.ledger.complaints];
    const difference = Math.max(...differencesOf(soaked.ledger, quiet));
    if (difference > largestDifference) wrong.push(`losses differ from a quiet run's by ${difference}`);
    if (wrong.length === 0) return tables;
    for (const table of tables) console.log(formatTable(table));
    throw new Error(`the soak failed: ${wrong.join('; ')}`);
  } finally {
    await room.close();
    await quietRun.close();
    await server.stop();
  }
}
