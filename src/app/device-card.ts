/** What this device is and how fast, as the device check found it; plain words where it computes in software or not at all. */
import { LitElement, css, html, nothing } from 'lit';
import type { SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatRate, formatTokensPerSecond } from './format.ts';

export type DeviceReport = NonNullable<SessionState['device']>;

export class DeviceCard extends LitElement {
  static override properties = { device: { attribute: false }, isChecking: { type: Boolean } };

  static override styles = [
    baseStyles,
    css`
      :host {
        min-height: 6.2em;
      }
      .name {
        font: 600 var(--size-work) / 1.4 var(--face-data);
        overflow-wrap: anywhere;
      }
      .problem {
        color: var(--bad);
        font-weight: 600;
      }
      .note {
        margin-top: var(--space-1);
      }
    `,
  ];

  device: DeviceReport | null = null;
  isChecking = false;

  override render(): unknown {
    const { device } = this;
    if (device === null) {
      return html`<p role="status" data-testid="device">
        ${this.isChecking
          ? 'Checking this device: a small computation with a known answer, its speed, and on a GPU’s first visit which kernels are fastest on it…'
          : 'Not checked yet. Joining checks it first; you can also look beforehand.'}
      </p>`;
    }
    return html`<div role="status" data-testid="device">
      <p class="name">${device.name}</p>
      ${device.problem === null
        ? html`<p>Its results are right; about <span class="data">${formatTokensPerSecond(device.probeTokensPerSecond)}</span> on the test problem.</p>`
        : html`<p class="problem">${device.problem.message}</p>
            <p>${device.problem.whatToDo}</p>
            <p class="soft note">It can watch the room.</p>`}
      ${device.isSoftware && device.problem === null
        ? html`<p class="soft note" data-testid="software-note">
            This device has no GPU driver that the browser can use; it computes in software. Expect about
            ${formatRate(device.probeTokensPerSecond)} tokens per second: it helps, but slowly.
          </p>`
        : nothing}
    </div>`;
  }
}

customElements.define('device-card', DeviceCard);
