/**
 * A room in which each peer is a browser process of its own, so that one can die as in a power cut: for the test of hand-offs,
 * the benchmarks and the soak. What must hold afterwards is theirs to say.
 */
import { chromium } from '@playwright/test';
import type { BrowserServer, LaunchOptions, Page } from '@playwright/test';
import type { PageStatus } from '../../src/session/page-api.ts';
import type { CreateSettings } from '../../src/session/types.ts';
import { createPausedRoom, joinRoom, statusOf, statusWhen } from './support.ts';

/** Quick steps, and no end: for rooms in which somebody is always about to go. */
export const endlessRun: CreateSettings = {
  preset: 'counting-list',
  codec: 'fp32',
  steps: 1_000_000,
  rowsPerStep: 8,
  rowsPerMicrobatch: 1,
  contextLength: 32,
  model: { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 16 },
};

export interface BrowserPeer {
  readonly name: string;
  readonly server: BrowserServer;
  readonly page: Page;
}

export interface HandOff {
  /** From the kill to the first new step under another leader. */
  readonly resumedMs: number;
  /** The page that was killed, before it was. */
  readonly before: PageStatus;
  /** Of the pages that were left: the one that had seen most, right before the kill. */
  readonly seen: PageStatus;
  /** Who leads now, when it had committed a step. */
  readonly after: PageStatus;
}

export interface BrowserRoomOptions {
  readonly url: string;
  readonly launchOptions: LaunchOptions;
  readonly run: CreateSettings;
  /** Run in each page before any script of its own. */
  readonly before?: () => void;
}

const names = ['Ada', 'Ben', 'Cid', 'Dan', 'Eva', 'Fay', 'Gus', 'Hal', 'Ida', 'Jon'];
const handOffTimeoutMs = 30_000;

export function hasSuccessor(status: PageStatus): boolean {
  return status.peers.some(({ succession }) => succession === 'ready');
}

export function peersAtWork(status: PageStatus): number {
  return status.peers.filter((peer) => peer.microbatches > 0).length;
}

export class BrowserRoom {
  readonly #options: BrowserRoomOptions;
  readonly #peers: BrowserPeer[] = [];
  #launched = 0;
  #link = '';

  constructor(options: BrowserRoomOptions) {
    this.#options = options;
  }

  get link(): string {
    return this.#link;
  }

  get peers(): readonly BrowserPeer[] {
    return this.#peers;
  }

  /** Starts the room with the first of so many peers; resolves when all have the weights, and it trains. */
  async open(peers: number): Promise<void> {
    const [first, ...guests] = await Promise.all(Array.from({ length: peers }, () => this.launch()));
    if (first === undefined) throw new RangeError('a room needs a peer');
    this.#link = await createPausedRoom(first.page, { ...this.#options.run, name: first.name });
    await Promise.all(guests.map((guest) => this.join(guest)));
    await this.untilReady();
    await this.command('resume');
  }

  /** Until all have the weights. */
  async untilReady(): Promise<void> {
    const { page } = await this.leader();
    const all = this.#peers.length;
    await statusWhen(page, 'all have the weights', ({ peers }) => peers.filter(({ state }) => state === 'ready').length === all);
  }

  /** A browser at the landing page. It counts as a peer of the room, which it is to join. */
  async launch(): Promise<BrowserPeer> {
    const { url, launchOptions, before } = this.#options;
    const name = `${names[this.#launched % names.length]}${this.#launched >= names.length ? ` ${this.#launched}` : ''}`;
    this.#launched += 1;
    const server = await chromium.launchServer(launchOptions);
    const browser = await chromium.connect(server.wsEndpoint());
    const page = await browser.newPage({ ignoreHTTPSErrors: true });
    if (before !== undefined) await page.addInitScript(before);
    const peer = { name, server, page };
    this.#peers.push(peer);
    await page.goto(url);
    return peer;
  }

  async join({ page, name }: BrowserPeer, watch = false): Promise<void> {
    await joinRoom(page, this.#link, { name, watch });
  }

  async leader(): Promise<BrowserPeer> {
    for (const peer of this.#peers) if ((await statusOf(peer.page)).role === 'coordinator') return peer;
    throw new Error('nobody leads');
  }

  /** Given by whoever leads. */
  async command(command: 'pause' | 'resume'): Promise<void> {
    const { page } = await this.leader();
    await page.evaluate((given) => {
      window.cotrain[given]();
    }, command);
  }

  /** The browser is closed; the room has a peer less. */
  async dismiss(peer: BrowserPeer): Promise<void> {
    this.#peers.splice(this.#peers.indexOf(peer), 1);
    await peer.server.close();
  }

  /** The same, without a word: the process dies. */
  kill(peer: BrowserPeer): void {
    peer.server.process().kill('SIGKILL');
    this.#peers.splice(this.#peers.indexOf(peer), 1);
  }

  /** When all are at work and one could follow: kills whoever leads, `delayMs` later, and waits for another one's next step. */
  async handOff(delayMs: number): Promise<HandOff> {
    const leader = await this.leader();
    const all = this.#peers.length;
    const before = await statusWhen(leader.page, `${all} at work, one of them ready to follow`, (status) => peersAtWork(status) === all && hasSuccessor(status));
    await leader.page.waitForTimeout(delayMs);
    const others = this.#peers.filter((peer) => peer !== leader);
    const looks = await Promise.all(others.map(({ page }) => statusOf(page)));
    const seen = looks.reduce((best, status) => (status.history.length > best.history.length ? status : best));
    const killedMs = performance.now();
    this.kill(leader);
    const leads = ({ role, step }: PageStatus): boolean => role === 'coordinator' && step > seen.step;
    const after = await Promise.any(others.map(({ page }) => statusWhen(page, 'leading', leads, handOffTimeoutMs)));
    return { resumedMs: performance.now() - killedMs, before, seen, after };
  }

  /** Until all who are in the room now follow the new leader. */
  async reunion({ seen, after }: HandOff): Promise<void> {
    const isBack = ({ term, step }: PageStatus): boolean => term === after.term && step > seen.step;
    await Promise.all(this.#peers.map(({ page }) => statusWhen(page, 'back in the room', isBack, handOffTimeoutMs)));
  }

  async another(): Promise<BrowserPeer> {
    const peer = await this.launch();
    await this.join(peer);
    return peer;
  }

  async close(): Promise<void> {
    await Promise.all(this.#peers.splice(0).map((peer) => peer.server.kill()));
  }
}
