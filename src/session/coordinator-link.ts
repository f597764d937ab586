/**
 * A member's connection to whoever leads: at most one, of the newest attempt. What arrives is validated here; what an older
 * attempt still brings is ignored.
 */
import * as v from 'valibot';
import { coordinatorBlobSchema, coordinatorMessageSchema } from '../room/messages.ts';
import type { CoordinatorBlob, CoordinatorMessage, MemberMessage, PeerId } from '../room/messages.ts';
import type { Problem } from '../trainer/types.ts';
import type { TransportCode } from '../transport/problems.ts';
import type { Connection, ConnectionHandlers, Endpoint } from '../transport/types.ts';
import { problemOf } from './problems.ts';

export interface CoordinatorLinkOptions {
  readonly endpoint: () => Promise<Endpoint>;
  readonly message: (message: CoordinatorMessage) => void;
  readonly blob: (header: CoordinatorBlob, bytes: ArrayBuffer) => void;
  readonly connected: (coordinator: PeerId) => void;
  /** `isFinal`: trying again can't help. */
  readonly failed: (problem: Problem, isFinal: boolean) => void;
  /** `distrusted`: what came that could not be understood, so that this side hung up; null where that is not why. */
  readonly lost: (reason: string, distrusted: string | null) => void;
}

const finalCodes: ReadonlySet<string> = new Set<TransportCode>(['wrong-key', 'version-mismatch']);

export class CoordinatorLink {
  readonly #options: CoordinatorLinkOptions;
  #connection: Connection | null = null;
  /** Grows with every attempt to connect, so that what comes of an older one is ignored. */
  #attempt = 0;

  constructor(options: CoordinatorLinkOptions) {
    this.#options = options;
  }

  get connection(): Connection | null {
    return this.#connection;
  }

  send(message: MemberMessage): void {
    this.#connection?.sendControl(message);
  }

  async connect(coordinator: PeerId): Promise<void> {
    const attempt = ++this.#attempt;
    const isCurrent = (): boolean => attempt === this.#attempt;
    const handlers: ConnectionHandlers = {
      control: (json) => {
        if (!isCurrent()) return;
        const message = v.safeParse(coordinatorMessageSchema, json);
        if (message.success) this.#options.message(message.output);
        else this.distrust('a message');
      },
      blob: (json, bytes) => {
        if (!isCurrent()) return;
        const header = v.safeParse(coordinatorBlobSchema, json);
        if (header.success) this.#options.blob(header.output, bytes);
        else this.distrust('data');
      },
      closed: (reason) => {
        if (!isCurrent()) return;
        this.#connection = null;
        this.#options.lost(reason, null);
      },
    };
    try {
      const endpoint = await this.#options.endpoint();
      const connection = await endpoint.connect(coordinator, handlers);
      if (!isCurrent()) {
        connection.close('not needed any more');
        return;
      }
      this.#connection = connection;
      this.#options.connected(coordinator);
    } catch (error) {
      if (!isCurrent()) return;
      const problem = problemOf(error);
      this.#options.failed(problem, finalCodes.has(problem.code));
    }
  }

  /** Hangs up on a coordinator that sent what can't be understood. */
  distrust(what: string): void {
    this.close('sent something that could not be understood');
    this.#options.lost(`${what} could not be understood`, what);
  }

  /** Nothing of this connection, or of an attempt under way, comes through any more. */
  close(reason: string): void {
    this.#attempt++;
    this.#connection?.close(reason);
    this.#connection = null;
  }
}
