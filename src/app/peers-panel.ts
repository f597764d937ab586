/** Everybody in the room: device, connection, speed, share of the last step, what they are doing, and who would lead next. */
import { LitElement, css, html, nothing } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import { styleMap } from 'lit/directives/style-map.js';
import { baseStyles, panelStyles } from './base-styles.ts';
import { formatRate, formatShare, unknown } from './format.ts';
import { connectionInWords, peerStateInWords, presenceInWords, warmingInWords, wayInWords } from './phases.ts';
import type { ConnectionRow, GonePeer, PeerRow } from './phases.ts';
import './panel-header.ts';

export class PeersPanel extends LitElement {
  static override properties = { peers: { attribute: false }, connections: { attribute: false }, gone: { attribute: false }, selfId: { type: String } };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .scroll {
        max-height: 640px;
        overflow: auto;
      }
      table {
        width: 100%;
        border-collapse: collapse;
      }
      th {
        position: sticky;
        top: 0;
        background: var(--paper);
        padding: var(--space-1) var(--space-2) var(--space-1) 0;
        border-bottom: 1px solid var(--rule-strong);
        text-align: left;
        font-weight: 500;
        font-size: var(--size-small);
        color: var(--ink-soft);
      }
      td {
        padding: var(--space-2) var(--space-2) var(--space-2) 0;
        border-bottom: 1px solid var(--rule);
        vertical-align: top;
      }
      .number {
        text-align: right;
        white-space: nowrap;
      }
      .name {
        font-weight: 600;
        overflow-wrap: anywhere;
      }
      .mark {
        display: inline-block;
        margin-left: var(--space-1);
        padding: 0 5px;
        border: 1px solid var(--accent);
        border-radius: var(--corner);
        color: var(--accent);
        font-size: 0.72rem;
        font-weight: 600;
        line-height: 1.4;
      }
      .device,
      .connection {
        font-size: var(--size-small);
        color: var(--ink-soft);
        overflow-wrap: anywhere;
      }
      .share {
        width: 30%;
        padding-left: var(--space-3);
      }
      .bar {
        height: 6px;
        margin-top: 7px;
        background: var(--well);
        border-radius: 1px;
      }
      .bar i {
        display: block;
        height: 100%;
        background: var(--accent);
        border-radius: 1px;
      }
      .share .data {
        float: right;
        width: 6ch;
        text-align: right;
      }
      .share .bar {
        margin-right: 7ch;
      }
      .state {
        padding-left: var(--space-4);
      }
      .gone {
        margin: var(--space-2) 0 0;
        font-size: var(--size-small);
        color: var(--ink-soft);
      }
      .late {
        color: var(--warn);
        font-weight: 600;
      }
      @media (max-width: 560px) {
        .share {
          width: 22%;
        }
        .share .bar {
          margin: 2px 0 0;
          clear: both;
        }
        .share .data {
          float: none;
          display: block;
          width: auto;
        }
        .state {
          width: 6.5em;
          padding-left: var(--space-2);
        }
      }
    `,
  ];

  peers: readonly PeerRow[] = [];
  connections: readonly ConnectionRow[] = [];
  gone: readonly GonePeer[] = [];
  selfId: string | null = null;

  #connection(peer: PeerRow): unknown {
    const row = this.connections.find((connection) => connection.peer === peer.id);
    const leader = this.peers.find(({ role }) => role === 'coordinator')?.name ?? '';
    // A page that doesn't lead is connected to whoever does; of the others it knows what that one says.
    const isOther = peer.id !== this.selfId;
    const words = row === undefined ? (isOther ? wayInWords(peer, leader) : '') : connectionInWords(row);
    return words === '' ? nothing : html`<div class="connection" data-testid="peer-connection">${words}</div>`;
  }

  #row(peer: PeerRow, total: number): unknown {
    const share = total > 0 ? peer.microbatches / total : 0;
    const isWatching = peer.role === 'watcher';
    const warming = warmingInWords(peer);
    const presence = presenceInWords(peer);
    const isTrouble = peer.state === 'late' || peer.state === 'silent';
    return html`<tr data-testid="peer-row" data-peer=${peer.id} data-role=${peer.role}>
      <td>
        <span class="name">${peer.name}</span>
        ${peer.id === this.selfId ? html`<span class="mark">you</span>` : nothing}
        ${peer.role === 'coordinator' ? html`<span class="mark" title="Coordinates the room and applies the updates">leads</span>` : nothing}
        ${peer.succession === 'ready' ? html`<span class="mark" title="Keeps up with every step, and leads when the coordinator can’t">leads next</span>` : nothing}
        ${peer.forwardsTo === undefined ? nothing : html`<span class="mark" title="Forwards each step’s weights, so that the coordinator need not send them to everybody">relays to ${peer.forwardsTo}</span>`}
        <div class="device">${peer.device}</div>
        ${peer.note === undefined ? nothing : html`<div class="device" data-testid="peer-note">${peer.note}</div>`}
        ${peer.twinOf === undefined ? nothing : html`<div class="device" data-testid="peer-twin">another tab of ${peer.twinOf}’s browser</div>`}
        ${presence === null ? nothing : html`<div class="device" data-testid="peer-presence">${presence}</div>`}
        ${warming === null ? nothing : html`<div class="device" data-testid="peer-warming">${warming}</div>`} ${this.#connection(peer)}
      </td>
      <td class="number data">${isWatching ? unknown : formatRate(peer.tokensPerSecond)}</td>
      <td class="share">
        <span class="data">${isWatching ? unknown : formatShare(share)}</span>
        <div class="bar"><i style=${styleMap({ width: `${(share * 100).toFixed(1)}%` })}></i></div>
      </td>
      <td class="state ${isTrouble ? 'late' : ''}">${peerStateInWords(peer.state)}</td>
    </tr>`;
  }

  override render(): unknown {
    const total = this.peers.reduce((sum, peer) => sum + peer.microbatches, 0);
    const computing = this.peers.filter((peer) => peer.role !== 'watcher').length;
    const watching = this.peers.length - computing;
    return html`<section aria-label="Peers">
      <panel-header heading="Peers">
        Every tab in this room. Each step’s text is cut into micro-batches; faster devices get more of them, and the share says
        how much of the last step each one computed. Who leads adds up everybody’s gradients and updates the weights; who leads
        next keeps what that takes, in case it can’t any more. Of peers that this page is connected to it says whether directly
        or by a relay, how long a message takes there and back, and how much is sent ↑ and received ↓.
        <span slot="tools" class="small soft" data-testid="peer-count">
          ${computing} computing${watching === 0 ? '' : `, ${watching} watching`}
        </span>
      </panel-header>
      <div class="scroll" tabindex="0" role="group" aria-label="Table of peers">
        <table>
          <thead>
            <tr>
              <th scope="col">Name, device</th>
              <th scope="col" class="number">Tokens/s</th>
              <th scope="col" class="share">Share of step</th>
              <th scope="col" class="state">State</th>
            </tr>
          </thead>
          <tbody>
            ${repeat(
              this.peers,
              (peer) => peer.id,
              (peer) => this.#row(peer, total),
            )}
          </tbody>
        </table>
      </div>
      ${this.gone.map(
        ({ name, reason }) => html`<p class="gone" data-testid="peer-gone">
          ${name} is not connected any more: ${reason}. A tab that was only cut off comes back by itself.
        </p>`,
      )}
    </section>`;
  }
}

customElements.define('peers-panel', PeersPanel);
