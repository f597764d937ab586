/**
 * The whole page: chooses the screen from the session's state and the address bar, and draws states at a pace that
 * people can read and training doesn't notice.
 */
import { LitElement, css, html } from 'lit';
import { cache } from 'lit/directives/cache.js';
import { parseRoomLink } from '../session/link.ts';
import type { SessionController, SessionState } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { hasEnded, isInRoom } from './phases.ts';
import { RenderGate } from './render-gate.ts';
import './end-screen.ts';
import './join-screen.ts';
import './landing-screen.ts';
import './room-screen.ts';
import './theme-toggle.ts';
import './word-mark.ts';

type Screen = 'starting' | 'landing' | 'join' | 'room' | 'end';

/** Changes that a person is waiting for; figures and curves can wait their quarter second. */
function isUrgent(shown: SessionState, next: SessionState): boolean {
  return (
    shown.phase !== next.phase ||
    shown.role !== next.role ||
    shown.problem !== next.problem ||
    shown.link !== next.link ||
    (shown.tokenizing === null) !== (next.tokenizing === null) ||
    shown.device !== next.device
  );
}

export class CotrainApp extends LitElement {
  static override properties = {
    controller: { attribute: false },
    state: { state: true },
    isEndSeen: { state: true },
  };

  static override styles = [
    baseStyles,
    css`
      :host {
        max-width: 1320px;
        margin: 0 auto;
        padding: 0 clamp(16px, 3vw, 40px) var(--space-7);
      }
      header {
        display: flex;
        align-items: center;
        justify-content: space-between;
        padding: var(--space-4) 0 var(--space-3);
      }
      a.home {
        display: inline-flex;
        padding: var(--space-1) 0;
        text-decoration: none;
      }
      main:focus {
        outline: none;
      }
    `,
  ];

  controller: SessionController | null = null;
  private state: SessionState | null = null;
  /** The person has gone on from the screen that follows a room. */
  private isEndSeen = false;

  #gate: RenderGate<SessionState> | null = null;
  #unsubscribe: (() => void) | null = null;
  #screenShown: Screen = 'starting';
  /** The room this page was in last, to join it again. */
  #lastLink: string | null = null;

  readonly #onHash = (): void => {
    const link = parseRoomLink(location.hash);
    const isElsewhere = link !== null && !('code' in link) && link.room !== this.state?.room;
    // Another room's link was opened in this tab: as with any link, the page goes there.
    if (isElsewhere && this.state !== null && isInRoom(this.state.phase)) location.reload();
    else this.requestUpdate();
  };
  readonly #onVisible = (): void => {
    if (!document.hidden) this.#gate?.flush();
  };

  override connectedCallback(): void {
    super.connectedCallback();
    addEventListener('hashchange', this.#onHash);
    document.addEventListener('visibilitychange', this.#onVisible);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    removeEventListener('hashchange', this.#onHash);
    document.removeEventListener('visibilitychange', this.#onVisible);
    this.#unsubscribe?.();
  }

  override willUpdate(changed: Map<PropertyKey, unknown>): void {
    if (changed.has('controller')) this.#listen();
    if (this.state === null || !isInRoom(this.state.phase)) return;
    this.isEndSeen = false;
    this.#lastLink = this.state.link ?? this.#lastLink;
  }

  #listen(): void {
    this.#unsubscribe?.();
    const { controller } = this;
    if (controller === null) return;
    this.state = controller.state;
    const gate = new RenderGate<SessionState>(controller.state, {
      show: (state) => (this.state = state),
      isUrgent,
      isHidden: () => document.hidden,
      nowMs: () => performance.now(),
      later: (run, delayMs) => setTimeout(run, delayMs),
    });
    this.#gate = gate;
    this.#unsubscribe = controller.subscribe((state) => gate.push(state));
  }

  #screen(): Screen {
    if (this.controller === null || this.state === null) return 'starting';
    if (isInRoom(this.state.phase)) return 'room';
    if (hasEnded(this.state.phase) && !this.isEndSeen) return 'end';
    // Read anew each time: the session writes the address bar too, which fires no event.
    return parseRoomLink(location.hash) === null ? 'landing' : 'join';
  }

  #goHome(): void {
    history.pushState(null, '', location.pathname + location.search);
    this.isEndSeen = true;
    this.requestUpdate();
  }

  #rejoin(): void {
    if (this.#lastLink !== null) location.hash = new URL(this.#lastLink).hash;
    this.isEndSeen = true;
  }

  override updated(): void {
    const screen = this.#screen();
    if (screen === this.#screenShown) return;
    const isFirst = this.#screenShown === 'starting';
    this.#screenShown = screen;
    if (isFirst) return;
    // Keyboard and screen reader begin at the new screen's top.
    this.renderRoot.querySelector('main')?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  #content(screen: Screen): unknown {
    const { controller, state } = this;
    if (controller === null || state === null || screen === 'starting') return html`<p role="status">Starting…</p>`;
    switch (screen) {
      case 'room':
        return html`<room-screen .controller=${controller} .state=${state}></room-screen>`;
      case 'end':
        return html`<end-screen
          .state=${state}
          @home=${() => this.#goHome()}
          @rejoin=${() => this.#rejoin()}
        ></end-screen>`;
      case 'join': {
        const link = parseRoomLink(location.hash);
        const isProblem = link !== null && 'code' in link;
        return html`<join-screen
          .controller=${controller}
          .room=${link === null || isProblem ? null : link.room}
          .linkProblem=${isProblem ? link : null}
          .problem=${state.problem}
          .device=${state.device}
          @home=${() => this.#goHome()}
        ></join-screen>`;
      }
      case 'landing':
        return html`<landing-screen .controller=${controller} .problem=${state.problem} .tokenizing=${state.tokenizing}></landing-screen>`;
    }
  }

  override render(): unknown {
    const screen = this.#screen();
    return html`
      <header>
        ${screen === 'join' || screen === 'end'
          ? html`<a
              class="home"
              href="./"
              aria-label="Cotrain, to the start page"
              @click=${(event: Event) => {
                event.preventDefault();
                this.#goHome();
              }}
              ><word-mark aria-hidden="true"></word-mark
            ></a>`
          : html`<word-mark></word-mark>`}
        <theme-toggle></theme-toggle>
      </header>
      <main tabindex="-1" data-screen=${screen}>${cache(this.#content(screen))}</main>
    `;
  }
}

customElements.define('cotrain-app', CotrainApp);

declare global {
  interface HTMLElementTagNameMap {
    'cotrain-app': CotrainApp;
  }
}
