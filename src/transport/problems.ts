/** What can go wrong on the way to another peer, in words for the person at the page. */
import { TransportError } from './types.ts';

export type TransportCode =
  | 'signalling-unreachable'
  | 'peer-unavailable'
  | 'connection-failed'
  | 'connection-timeout'
  | 'connection-closed'
  | 'wrong-key'
  | 'version-mismatch'
  | 'webrtc-unavailable';

/** How far WebRTC got; the words are the standard's own, so that they can be looked up. */
export interface ConnectionStates {
  readonly ice: RTCIceConnectionState;
  readonly connection: RTCPeerConnectionState;
}

/** What to do about troubles that the session meets without this module's errors, too. */
export const sharedAdvice = {
  'signalling-unreachable':
    'Check that the computer that runs Cotrain is on and in the same network; for an https address, open the page itself once and accept its certificate. Connections that are open go on meanwhile.',
  'version-mismatch': 'Reload this page; if that changes nothing, ask the people in the room to reload theirs.',
} as const satisfies Partial<Record<TransportCode, string>>;

export const problems = {
  signallingUnreachable: (url: URL): TransportError =>
    problem(
      'signalling-unreachable',
      `The server at ${url.host} does not answer, so new connections cannot be made.`,
      sharedAdvice['signalling-unreachable'],
    ),
  peerUnavailable: (): TransportError =>
    problem(
      'peer-unavailable',
      'The other tab is not there any more: it was closed, or reloaded and has a new address.',
      'This tries again by itself as soon as somebody leads the room. If it goes on, open the room’s link in the tab that started it.',
    ),
  connectionFailed: (states: ConnectionStates, relayConfigured: boolean): TransportError =>
    problem(
      'connection-failed',
      `The other tab was found, but no direct way to it works (ICE ${states.ice}, connection ${states.connection}).`,
      relayHint(relayConfigured),
    ),
  connectionTimeout: (states: ConnectionStates, seconds: number, relayConfigured: boolean): TransportError =>
    problem(
      'connection-timeout',
      `The other tab was found, but no connection came about within ${seconds} s (ICE ${states.ice}, connection ${states.connection}).`,
      relayHint(relayConfigured),
    ),
  connectionClosed: (reason: string): TransportError =>
    problem('connection-closed', `The connection to the other tab ended: ${reason}.`, 'This tries again by itself.'),
  wrongKey: (): TransportError =>
    problem(
      'wrong-key',
      'The two tabs do not hold the same room key, or something between them is not what it pretends to be. The key may have been renewed since this link was made.',
      'Copy the whole invitation link again, up to its last character, and open that; if the room’s owner has renewed the key, ask for the new link.',
    ),
  versionMismatch: (ours: number, theirs: number): TransportError =>
    problem(
      'version-mismatch',
      `The two tabs run different versions of Cotrain (${ours} here, ${theirs} there).`,
      sharedAdvice['version-mismatch'],
    ),
  webRtcUnavailable: (): TransportError =>
    problem(
      'webrtc-unavailable',
      'This browser offers no WebRTC, so it cannot reach other tabs.',
      'Use a current Chrome, Edge, Firefox or Safari, and check that no extension or policy switches WebRTC off.',
    ),
} as const;

function problem(code: TransportCode, message: string, whatToDo: string): TransportError {
  return new TransportError({ code, message, whatToDo });
}

function relayHint(relayConfigured: boolean): string {
  return relayConfigured
    ? 'The relay (TURN) did not help either: check that it runs, that its secret is right and that it allows this network’s addresses.'
    : 'Bring both devices into the same network without client isolation (guest Wi-Fi often has it), or start the server with --turn-url and --turn-secret for a relay.';
}
