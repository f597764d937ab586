/**
 * One stay in a room, from entering to leaving: its address in the page and in this browser's memory, the way to its
 * directory and its peers, a ticking clock, and the samples and texts written there. Which role the page plays is the session's.
 */
import { deserializeTokenizer } from '../data/serialized-tokenizer.ts';
import { startTicker } from '../trainer/ticker.ts';
import type { Connection, ConnectionHandlers } from '../transport/types.ts';
import { createDirectoryClient } from './directory-client.ts';
import type { DirectoryClient } from './directory-client.ts';
import { roomLink } from './link.ts';
import type { RoomKeys } from '../room/rules.ts';
import type { RoomAddress } from './link.ts';
import { rememberTab } from './memory.ts';
import type { RunDescription } from './run.ts';
import { Sampler } from './sampler.ts';
import type { SamplerOptions } from './sampler.ts';
import { Signalling } from './signalling.ts';
import type { StateStore } from './state.ts';
import { Writer } from './writer.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { ChatFormat, WriterOptions } from './writer.ts';

const tickPeriodMs = 250;

export interface VisitOptions {
  readonly address: RoomAddress;
  readonly name: string;
  readonly role: 'coordinator' | 'member' | 'watcher';
  readonly store: StateStore;
  /** A peer whose key is proved; null when this page does not lead. */
  readonly accept: (connection: Connection) => ConnectionHandlers | null;
  /** The way to the signalling server is gone; it is looked for again. */
  readonly signallingLost: () => void;
  readonly tick: () => void;
}

export class Visit {
  readonly directory: DirectoryClient;
  readonly signalling: Signalling;
  #address: RoomAddress;
  #sampler: Sampler | null = null;
  #sampledRun: RunDescription | null = null;
  #writer: Writer | null = null;
  readonly #store: StateStore;
  readonly #stopTicker: () => void;
  #isOver = false;

  constructor({ address, name, role, store, accept, signallingLost, tick }: VisitOptions) {
    this.#address = address;
    this.directory = createDirectoryClient(new URL('.', document.baseURI), address.room, address.key);
    this.#store = store;
    rememberTab({ room: address.room, role, name });
    store.update({ role, room: address.room, name, history: [], peers: [], connections: [], sample: null, loss: null, step: 0 });
    this.#showLink();
    this.signalling = new Signalling({
      room: address.room,
      key: () => this.#address.key,
      directory: this.directory,
      accept: (connection) => {
        const handlers = accept(connection);
        if (handlers !== null) return handlers;
        connection.close('this peer does not lead the room');
        return { control: () => undefined, blob: () => undefined, closed: () => undefined };
      },
      changed: (signalling) => {
        store.update({ signalling });
        if (signalling === 'offline') signallingLost();
      },
    });
    this.#stopTicker = startTicker(tickPeriodMs, tick);
  }

  get address(): RoomAddress {
    return this.#address;
  }

  get link(): string {
    return roomLink(new URL(location.href), this.#address);
  }

  /** From now on these are proved to peers and to the directory, and the link has the new one. */
  useKeys(keys: RoomKeys): void {
    this.directory.useKeys(keys);
    if (keys.current === this.#address.key) return;
    this.#address = { ...this.#address, key: keys.current };
    this.#showLink();
  }

  #showLink(): void {
    const { link } = this;
    const { hostname } = new URL(link);
    history.replaceState(null, '', link);
    this.#store.update({ link, inviteLink: link });
    if (hostname === 'localhost' || hostname === '127.0.0.1') this.#inviteFromElsewhere();
  }

  /** Another room was entered, or this one left: what still comes of this visit is to be dropped. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Samples are drawn and texts written as soon as the run's tokenizer is there. */
  startSampling(run: RunDescription, trainer: WriterOptions['trainer'], sampled: SamplerOptions['sampled']): void {
    this.#sampler = null;
    this.#writer?.end();
    this.#writer = null;
    this.#sampledRun = run;
    readerOf(run).then(
      ({ tokenizer, chat }) => {
        if (this.#isOver || this.#sampledRun !== run) return;
        this.#sampler = new Sampler({ tokenizer, prompt: run.prompt, sampled });
        this.#writer = new Writer({ trainer, tokenizer, chat, store: this.#store });
      },
      (error: unknown) => {
        this.#store.notice(`No samples are drawn: ${error instanceof Error ? error.message : String(error)}.`);
      },
    );
  }

  get writer(): Writer | null {
    return this.#writer;
  }

  get sampler(): Sampler | null {
    return this.#sampler;
  }

  end(): void {
    this.#isOver = true;
    this.#stopTicker();
    this.signalling.close();
    this.#sampler = null;
    this.#writer?.end();
    this.#writer = null;
    this.#store.update({ signalling: 'unused' });
  }

  /** A link to localhost is of no use on another machine. */
  #inviteFromElsewhere(): void {
    this.directory.serverUrls().then(
      ({ lan: [first] }) => {
        if (first !== undefined && !this.#isOver) this.#store.update({ inviteLink: roomLink(new URL(first), this.#address) });
      },
      () => undefined, // The link of this page is shown.
    );
  }
}

/** The run's tokenizer, and how to talk to what learns conversations. */
async function readerOf({ tokenizer: serialized, settings }: RunDescription): Promise<{ readonly tokenizer: Tokenizer; readonly chat: ChatFormat | null }> {
  const tokenizer = await deserializeTokenizer(serialized);
  if (settings.objective.kind === 'everything') return { tokenizer, chat: null };
  const { chatFormatOf } = await import('./chat-format.ts');
  return { tokenizer, chat: chatFormatOf(tokenizer) };
}
