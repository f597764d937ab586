/** What all machines of a simulation share. */
import type { CoordinatorEffect, CoordinatorEvent, MemberEffect, MemberEvent } from '../../src/room/machine.ts';
import type { VirtualClock } from './clock.ts';
import type { SimulatedDirectory } from './directory.ts';
import type { Ledger } from './ledger.ts';
import type { RoomLog } from './log.ts';
import type { SimulatedNetwork } from './network.ts';
import type { Random } from './random.ts';
import type { ChangedRun, TinyRun } from './tiny-run.ts';

/** Stands between machines and world, to plant bugs that the ledger must find. Empty in honest simulations. */
export interface Tampering {
  readonly coordinatorEffects?: (effects: readonly CoordinatorEffect[]) => readonly CoordinatorEffect[];
  readonly coordinatorEvents?: (event: CoordinatorEvent) => readonly CoordinatorEvent[];
  readonly memberEffects?: (effects: readonly MemberEffect[]) => readonly MemberEffect[];
  readonly memberEvents?: (event: MemberEvent) => readonly MemberEvent[];
  /** SHA-256 of a piece that somebody forwarded. */
  readonly hash?: (bytes: ArrayBuffer) => string;
  /** A replica as a newcomer has put it together. */
  readonly replica?: (bytes: ArrayBuffer) => ArrayBuffer;
}

export interface World {
  readonly clock: VirtualClock;
  readonly random: Random;
  readonly log: RoomLog;
  readonly ledger: Ledger;
  readonly network: SimulatedNetwork;
  readonly directory: SimulatedDirectory;
  readonly run: TinyRun;
  readonly tampering: Tampering;
  readonly piecesPerUpdate: number;
  /** Losses under a schedule that the owner has changed. */
  readonly changedRun: ChangedRun;
  /** Revisions of the owner's orders that some leader declined. */
  readonly declined: Set<number>;
  newAddress(machine: string): string;
}
