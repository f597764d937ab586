/** The session's phases, roles, peer states and connections in plain words, so that every panel says the same thing. */
import type { SessionPhase, SessionState } from '../session/types.ts';
import { formatBytesPerSecond, formatRoundTrip } from './format.ts';

export type PeerRow = SessionState['peers'][number];
export type GonePeer = SessionState['gone'][number];
export type ConnectionRow = SessionState['connections'][number];

export interface PhaseWords {
  /** Beside the title. */
  readonly label: string;
  /** What happens meanwhile, for phases in which a person waits; null when there is nothing to wait for. */
  readonly waiting: string | null;
  readonly tone: 'busy' | 'good' | 'still' | 'bad';
}

const phaseWords: Record<SessionPhase, PhaseWords> = {
  idle: { label: 'not started', waiting: null, tone: 'still' },
  'checking-device': {
    label: 'checking this device',
    waiting:
      'Checking this device: it computes a small problem whose answer is known, and its speed is measured. A GPU that is here for the first time also tries which kernels are fastest on it: two seconds.',
    tone: 'busy',
  },
  preparing: {
    label: 'preparing',
    waiting: 'Preparing: the model is laid out in memory and its GPU programs are compiled. This happens once.',
    tone: 'busy',
  },
  'finding-room': { label: 'finding the room', waiting: 'Asking the server who leads this room.', tone: 'busy' },
  connecting: {
    label: 'connecting',
    waiting: 'Connecting to the coordinator, directly from browser to browser.',
    tone: 'busy',
  },
  'fetching-replica': {
    label: 'fetching the weights',
    waiting: 'Fetching the current weights of the model; then this device can take its share of the work.',
    tone: 'busy',
  },
  running: { label: 'training', waiting: null, tone: 'good' },
  paused: { label: 'paused', waiting: null, tone: 'still' },
  finished: { label: 'finished', waiting: null, tone: 'good' },
  reconnecting: {
    label: 'reconnecting',
    waiting: 'The connection is gone. This page keeps trying; nothing needs to be done.',
    tone: 'bad',
  },
  stopped: { label: 'stopped', waiting: null, tone: 'still' },
  left: { label: 'left', waiting: null, tone: 'still' },
};

export function wordsFor(phase: SessionPhase): PhaseWords {
  return phaseWords[phase];
}

/** Phases that show the room screen. */
export function isInRoom(phase: SessionPhase): boolean {
  return phase !== 'idle' && phase !== 'left' && phase !== 'stopped';
}

export function hasEnded(phase: SessionPhase): boolean {
  return phase === 'left' || phase === 'stopped';
}

const peerStateWords: Record<PeerRow['state'], string> = {
  joining: 'joining',
  syncing: 'fetching weights',
  ready: 'ready',
  computing: 'computing',
  late: 'late',
  silent: 'not answering',
  resting: 'resting',
  watching: 'watching',
  leaving: 'leaving',
};

export function peerStateInWords(state: PeerRow['state']): string {
  return peerStateWords[state];
}

const restWords: Record<NonNullable<PeerRow['rest']>, string> = {
  hidden: 'Its page is in the background; it works again when somebody looks at it.',
  frozen: 'Its page stands still in the background; it works again when somebody looks at it.',
  throttled: 'Its browser holds the page back.',
  battery: 'Its battery is low; it works again when it charges.',
};

/** Why it leaves the work to others for now, or that nobody looks at its page; null when there is nothing to say. */
export function presenceInWords({ rest, isHidden }: PeerRow): string | null {
  if (rest !== undefined) return restWords[rest];
  return isHidden === true ? 'in the background' : null;
}

/** "direct · 12 ms · ↑ 1.2 MB/s ↓ 3.0 MB/s", less what is not known; empty when nothing is. */
export function connectionInWords({ path, roundTripMs, bytesPerSecondUp, bytesPerSecondDown }: ConnectionRow): string {
  const rates = [
    bytesPerSecondUp === null ? '' : `↑ ${formatBytesPerSecond(bytesPerSecondUp)}`,
    bytesPerSecondDown === null ? '' : `↓ ${formatBytesPerSecond(bytesPerSecondDown)}`,
  ];
  const roundTrip = roundTripMs === null ? '' : formatRoundTrip(roundTripMs);
  return [path ?? '', roundTrip, rates.filter((rate) => rate !== '').join(' ')].filter((part) => part !== '').join(' · ');
}

/** The way between a peer and whoever leads, where this page has no connection to it; empty when nothing is known. */
export function wayInWords({ path, roundTripMs }: PeerRow, leader: string): string {
  if (path === undefined) return '';
  const roundTrip = roundTripMs === undefined ? '' : ` · ${formatRoundTrip(roundTripMs)}`;
  return `${path}${roundTrip} to ${leader}`;
}

/** Of whoever is being made ready to lead when the coordinator can't; null for all others. */
export function warmingInWords({ succession, lagSteps = 0 }: PeerRow): string | null {
  if (succession !== 'warming') return null;
  if (lagSteps === 0) return 'getting ready to lead';
  return `getting ready to lead (${lagSteps} ${lagSteps === 1 ? 'step' : 'steps'} behind)`;
}
