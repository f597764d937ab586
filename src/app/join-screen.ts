/** The screen behind a room link: who you are, what this device is, join or watch. */
import { LitElement, css, html, nothing } from 'lit';
import { problemOf } from '../session/problems.ts';
import type { SessionController } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import type { DeviceReport } from './device-card.ts';
import { browserProblem, thisBrowser } from './problem.ts';
import type { Problem } from './problem.ts';
import { rememberedName } from './preferences.ts';
import './device-card.ts';
import './name-field.ts';
import './problem-banner.ts';

/** @fires home - the person wants the landing page instead */
export class JoinScreen extends LitElement {
  static override properties = {
    controller: { attribute: false },
    room: { type: String },
    linkProblem: { attribute: false },
    problem: { attribute: false },
    device: { attribute: false },
    name: { state: true },
    own: { state: true },
    isChecking: { state: true },
    isJoining: { state: true },
  };

  static override styles = [
    baseStyles,
    panelStyles,
    css`
      .hero {
        display: grid;
        gap: var(--space-4);
        padding: var(--space-6) 0;
      }
      h1 {
        font-size: var(--size-title);
        line-height: 1.15;
      }
      h2 {
        font-size: var(--size-head);
        margin-bottom: var(--space-3);
      }
      .columns {
        display: grid;
        gap: var(--space-5) var(--space-7);
        grid-template-columns: minmax(0, 1fr);
        max-width: 860px;
      }
      .actions {
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-3);
        margin: var(--space-5) 0 var(--space-2);
      }
      .actions button {
        min-height: 48px;
        font-size: 1.05rem;
      }
      .narrow {
        max-width: 640px;
      }
      problem-banner {
        margin-bottom: var(--space-3);
      }
      @media (min-width: 760px) {
        .columns {
          grid-template-columns: 1fr 1fr;
        }
      }
    `,
  ];

  controller!: SessionController;
  room: string | null = null;
  /** What is wrong with the link itself; nothing can be joined then. */
  linkProblem: Problem | null = null;
  problem: Problem | null = null;
  device: DeviceReport | null = null;
  private name = rememberedName();
  private own: Problem | null = null;
  private isChecking = false;
  private isJoining = false;
  readonly #browserProblem = browserProblem(thisBrowser());

  async #check(): Promise<void> {
    this.isChecking = true;
    this.own = null;
    try {
      this.device = await this.controller.checkDevice();
    } catch (error) {
      this.own = problemOf(error);
    } finally {
      this.isChecking = false;
    }
  }

  async #join(watch: boolean): Promise<void> {
    this.isJoining = true;
    this.own = null;
    try {
      await this.controller.join(location.href, { name: this.name.trim(), watch });
    } catch (error) {
      this.own = problemOf(error);
    } finally {
      this.isJoining = false;
    }
  }

  #home(): void {
    this.dispatchEvent(new Event('home'));
  }

  #incomplete(problem: Problem): unknown {
    return html`<div class="hero narrow">
      <h1>This link doesn’t lead to a room.</h1>
      <problem-banner .problem=${problem}></problem-banner>
      <p><button @click=${() => this.#home()}>To the start page</button></p>
    </div>`;
  }

  override render(): unknown {
    if (this.linkProblem !== null) return this.#incomplete(this.linkProblem);
    const canCompute = this.#browserProblem === null && this.device?.problem == null;
    return html`
      <div class="hero">
        <h1>You’re invited to a training room.</h1>
        <p class="read soft">
          Room <span class="data" data-testid="room-id">${this.room}</span>. When you join, this tab computes a share of every
          step with this device’s GPU and shows the run as everybody sees it. Leave whenever you
          like.
        </p>
      </div>
      <div class="columns">
        <section aria-labelledby="you">
          <h2 id="you">You</h2>
          <name-field .name=${this.name} @name=${(event: CustomEvent<string>) => (this.name = event.detail)}></name-field>
        </section>
        <section aria-labelledby="device">
          <h2 id="device">This device</h2>
          ${this.#browserProblem === null
            ? html`<device-card .device=${this.device} .isChecking=${this.isChecking}></device-card>
                ${this.device === null
                  ? html`<button data-testid="check-device" ?disabled=${this.isChecking || this.isJoining} @click=${() => void this.#check()}>
                      Check this device
                    </button>`
                  : nothing}`
            : html`<problem-banner data-testid="device-problem" .problem=${this.#browserProblem}></problem-banner>
                <p class="soft">It can watch the room.</p>`}
        </section>
      </div>
      <div class="actions">
        <button class="primary" data-testid="join" ?disabled=${!canCompute || this.isJoining} @click=${() => void this.#join(false)}>
          ${this.isJoining ? 'Joining…' : 'Join'}
        </button>
        <button data-testid="watch" ?disabled=${this.isJoining} @click=${() => void this.#join(true)}>Watch only</button>
      </div>
      <p class="soft small narrow">Watching shows everything and computes nothing.</p>
      <problem-banner class="narrow" .problem=${this.own ?? this.problem}></problem-banner>
    `;
  }
}

customElements.define('join-screen', JoinScreen);
