/**
 * Endpoints over PeerJS: it finds the other tab through the signalling server and makes the RTCPeerConnection; data
 * then goes over two channels of our own beside PeerJS's, which stays on this thread so that a hidden tab isn't
 * throttled. Keeps signalling alive (`signalling.ts` says how); what crosses the channels is `link.ts`'s.
 */
import type { DataConnection, Peer, PeerError } from 'peerjs';
import { fingerprintOf, type HandshakeIdentity } from './handshake.ts';
import { openLink, type Link } from './link.ts';
import { problems, type ConnectionStates } from './problems.ts';
import { openRtcSubflow } from './rtc-subflow.ts';
import { keepSignalling, type Signalling } from './signalling.ts';
import type { OpenSubflow } from './subflows.ts';
import type { Connection, ConnectionHandlers, Endpoint, EndpointOptions } from './types.ts';

/** PeerJS negotiates its channel in-band and gets stream 0 or 1. Both sides must agree on ours. */
const controlStream = 20;
const bulkStream = 21;
/** From asking for a connection to its channels being open; gathering and checking candidates through a relay can take 10 s. */
const connectTimeoutSeconds = 20;
const failedPatienceMs = 15_000;
/** Connections that haven't proved the key yet: a stranger who learned our id can't make us hold more. */
const maxUnproved = 64;
/** Further connections of all links together. Chromium allows 500 connections in a page; each takes memory and a thread's time. */
const maxSubflowsInAll = 64;

/** Rejects with a `TransportError` when signalling can't be reached; later losses are repaired in the background. */
export async function openEndpoint(options: EndpointOptions): Promise<Endpoint> {
  if (typeof RTCPeerConnection === 'undefined') throw problems.webRtcUnavailable();
  const endpoint = new PeerJsEndpoint(options);
  await endpoint.start();
  return endpoint;
}

/** One PeerJS connection, open or on its way. */
interface Attachment {
  readonly remoteId: string;
  readonly link: Link;
  /** null until it is open. */
  connection: Connection | null;
}

class PeerJsEndpoint implements Endpoint {
  readonly #options: EndpointOptions;
  /** PeerJS reads it whenever it makes a connection, so refreshing it in place is enough. Never its default servers. */
  readonly #rtcConfig: RTCConfiguration & { iceServers: RTCIceServer[] } = { iceServers: [] };
  readonly #signalling: Signalling;
  readonly #attachments = new Set<Attachment>();
  #unproved = 0;
  #subflows = 0;
  #destroyed = false;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.#signalling = keepSignalling({
      url: options.signallingUrl,
      rtcConfig: this.#rtcConfig,
      stateChanged: options.signallingChanged,
      idChanged: (id) => options.idChanged?.(id),
      incoming: (peer, connection) => this.#incoming(peer, connection),
      peerError: (error) => this.#peerError(error),
      beforeConnecting: () => this.#refreshIceServers(),
    });
    // Having this listener also makes Chromium close connections properly instead of just ending the tab's process.
    addEventListener('pagehide', this.#pageHides);
  }

  readonly #pageHides = (): void => this.#closeAll('the tab was closed');

  get id(): string {
    return this.#signalling.id;
  }

  start(): Promise<void> {
    return this.#signalling.opened;
  }

  async #refreshIceServers(): Promise<void> {
    // An unreachable server leaves what was known: within one network no ICE server is needed at all.
    const servers = await this.#options.iceServers().catch(() => null);
    if (servers !== null) this.#rtcConfig.iceServers = [...servers];
  }

  async connect(remoteId: string, handlers: ConnectionHandlers): Promise<Connection> {
    await this.#refreshIceServers();
    const peer = this.#signalling.onlinePeer();
    if (peer === null || this.#destroyed) throw problems.signallingUnreachable(this.#options.signallingUrl);
    const ownId = this.id;
    // PeerJS returns nothing (and emits an error) when the socket was lost in this very moment.
    const connection = peer.connect(remoteId, { reliable: true, serialization: 'raw' }) as DataConnection | undefined;
    if (connection === undefined) throw problems.signallingUnreachable(this.#options.signallingUrl);
    return this.#link(connection, { role: 'caller', ownId, handlers: () => handlers });
  }

  #incoming(peer: Peer, connection: DataConnection): void {
    if (this.#destroyed || this.#unproved >= maxUnproved) {
      connection.close();
      return;
    }
    this.#unproved += 1;
    this.#link(connection, { role: 'callee', ownId: peer.id, handlers: this.#options.accept }).then(
      () => {
        this.#unproved -= 1;
      },
      () => {
        // Whoever failed to prove the key is no business of ours; the caller is told why.
        this.#unproved -= 1;
      },
    );
  }

  #link(
    connection: DataConnection,
    side: { readonly role: 'caller' | 'callee'; readonly ownId: string; readonly handlers: (connection: Connection) => ConnectionHandlers },
  ): Promise<Connection> {
    const rtc = connection.peerConnection;
    const makeChannel = (label: string, id: number): RTCDataChannel => {
      const channel = rtc.createDataChannel(label, { negotiated: true, id, ordered: true });
      channel.binaryType = 'arraybuffer';
      return channel;
    };
    const identity = async (): Promise<HandshakeIdentity> => {
      await negotiated(rtc);
      return {
        role: side.role,
        room: this.#options.room,
        key: this.#options.key(),
        ownId: side.ownId,
        remoteId: connection.peer,
        ownFingerprint: fingerprintOf(rtc.localDescription?.sdp ?? ''),
        remoteFingerprint: fingerprintOf(rtc.remoteDescription?.sdp ?? ''),
      };
    };
    const control = makeChannel('cotrain-control', controlStream);
    const link: Link = openLink({
      control,
      bulk: makeChannel('cotrain-bulk', bulkStream),
      identity,
      handlers: side.handlers,
      getStats: () => rtc.getStats(),
      openSubflow: this.#openSubflow,
      release: () => connection.close(),
    });

    const states = (): ConnectionStates => ({ ice: rtc.iceConnectionState, connection: rtc.connectionState });
    const relayConfigured = this.#rtcConfig.iceServers.some((server) => [server.urls].flat().some((url) => url.startsWith('turn')));
    const attachment: Attachment = { remoteId: connection.peer, link, connection: null };
    this.#attachments.add(attachment);
    const failed = (): void => {
      const wasOpen = attachment.connection !== null;
      link.fail(wasOpen ? problems.connectionClosed('the other side stopped answering') : problems.connectionFailed(states(), relayConfigured));
    };
    const timer = setTimeout(() => {
      if (control.readyState !== 'open') link.fail(problems.connectionTimeout(states(), connectTimeoutSeconds, relayConfigured));
    }, connectTimeoutSeconds * 1000);
    // PeerJS watches the ICE state alone, which in Chromium stays "disconnected" for ever when a tab is killed. "failed"
    // comes after 15 s without an answer; on a machine at its limits answers still come after that, so it gets longer.
    let patience: ReturnType<typeof setTimeout> | undefined;
    rtc.addEventListener('connectionstatechange', () => {
      clearTimeout(patience);
      if (rtc.connectionState === 'failed') patience = setTimeout(failed, failedPatienceMs);
    });
    // PeerJS closes the connection right after it reports a failed state, so the state is taken here, not later.
    connection.on('error', failed);
    connection.on('close', () => {
      clearTimeout(patience);
      this.#attachments.delete(attachment);
      link.fail(problems.connectionClosed('the other side is gone'));
    });
    return link.opened.then(
      (opened) => {
        clearTimeout(timer);
        attachment.connection = opened;
        return opened;
      },
      (error: unknown) => {
        clearTimeout(timer);
        this.#attachments.delete(attachment);
        throw error;
      },
    );
  }

  readonly #openSubflow: OpenSubflow = (role, events) => {
    if (this.#subflows >= maxSubflowsInAll) return null;
    this.#subflows += 1;
    return openRtcSubflow(this.#rtcConfig, role, events, () => {
      this.#subflows -= 1;
    });
  };

  #peerError(error: PeerError<string>): void {
    if (error.type !== 'peer-unavailable') return; // The rest is signalling's own, or ends in that connection's timeout.
    // The id stands only in the message. Connections that are open don't need signalling and take no harm.
    for (const { remoteId, link, connection } of this.#attachments) {
      if (connection === null && error.message.endsWith(` ${remoteId}`)) link.fail(problems.peerUnavailable());
    }
  }

  #closeAll(reason: string): void {
    for (const { link, connection } of this.#attachments) {
      if (connection === null) link.fail(problems.connectionClosed(reason));
      else connection.close(reason);
    }
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    removeEventListener('pagehide', this.#pageHides);
    this.#closeAll('the tab left');
    this.#signalling.close();
  }
}

/**
 * Until this thread sees both descriptions. On a busy machine Chromium connects and opens channels before the promise of
 * setRemoteDescription resolves; until then `remoteDescription` is null.
 */
async function negotiated(rtc: RTCPeerConnection): Promise<void> {
  while (rtc.signalingState !== 'closed' && (rtc.signalingState !== 'stable' || rtc.localDescription === null || rtc.remoteDescription === null)) {
    await new Promise((resolve) => rtc.addEventListener('signalingstatechange', resolve, { once: true }));
  }
}
