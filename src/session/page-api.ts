/** `window.cotrain`: the session for scripts, tests and curious people (DESIGN §5). Only what is promised there. */
import type { PeerRow } from '../room/messages.ts';
import type { ChatMessage, CreateSettings, GenerateOptions, Generated, OwnerControls, SessionController, SessionState } from './types.ts';

export interface PageStatus
  extends Pick<SessionState, 'role' | 'room' | 'title' | 'isOwner' | 'term' | 'phase' | 'step' | 'steps' | 'loss' | 'validationLoss' | 'bitsPerByte' | 'tokensPerSecond' | 'replicaHash' | 'history' | 'sample' | 'problem'> {
  readonly peers: readonly {
    readonly id: string;
    readonly name: string;
    readonly role: 'coordinator' | 'member' | 'watcher';
    readonly device: string;
    readonly tokensPerSecond: number;
    readonly microbatches: number;
    readonly state: PeerRow['state'];
    /** Keeps what leading takes (`ready`), or is being sent it; null for all others. */
    readonly succession: 'warming' | 'ready' | null;
  }[];
}

export interface PageApi {
  create(settings: CreateSettings): Promise<{ link: string }>;
  join(link: string, options?: { readonly name?: string; readonly watch?: boolean }): Promise<void>;
  status(): PageStatus;
  pause(): void;
  resume(): void;
  leave(): Promise<void>;
  /** Lets this page's model continue a text, or answer a conversation where the run has a template for such. */
  sample(prompt: string | readonly ChatMessage[], options?: GenerateOptions): Promise<Generated>;
  /** What only the owner of the room can do. */
  readonly owner: OwnerControls;
}

declare global {
  interface Window {
    cotrain: PageApi;
  }
}

export function installPageApi(session: SessionController): void {
  window.cotrain = {
    create: (settings) => session.create(settings),
    join: (link, options) => session.join(link, options),
    pause: () => {
      session.pause();
    },
    resume: () => {
      session.resume();
    },
    leave: () => session.leave(),
    sample: (prompt, options) => session.writing.generate(prompt, options),
    owner: session.owner,
    status() {
      const { role, room, title, isOwner, term, phase, step, steps, loss, validationLoss, bitsPerByte, tokensPerSecond, replicaHash, history, sample, problem, peers } =
        session.state;
      return {
        role,
        room,
        title,
        isOwner,
        term,
        phase,
        step,
        steps,
        loss,
        validationLoss,
        bitsPerByte,
        tokensPerSecond,
        replicaHash,
        history,
        sample,
        problem,
        peers: peers.map((peer) => ({
          id: peer.id,
          name: peer.name,
          role: peer.role,
          device: peer.device,
          tokensPerSecond: peer.tokensPerSecond,
          microbatches: peer.microbatches,
          state: peer.state,
          succession: peer.succession ?? null,
        })),
      };
    },
  };
}
