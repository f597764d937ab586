/**
 * The playground: a text to continue, or turns of a conversation, and what the model makes of it as it comes, beside what weights
 * that were kept make of it. Loaded when there is a model to try. It draws no tokens and keeps no weights itself.
 */
import { LitElement, html, nothing } from 'lit';
import { live } from 'lit/directives/live.js';
import { parameterLayoutOf } from '../model/parameters.ts';
import { problemOf } from '../session/problems.ts';
import type { ChatMessage, Generated, SessionState, WritingControls } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import { chatStyles } from './chat-styles.ts';
import { formatBytes, formatInteger, formatTokensPerSecond } from './format.ts';
import type { Problem } from './problem.ts';
import { usualWriting } from './writing-settings.ts';
import type { WritingOptions } from './writing-settings.ts';
import './panel-header.ts';

interface Answer {
  readonly name: string;
  /** `KeptModel.id`; null: the run's own weights. */
  readonly weights: number | null;
  readonly text: string;
  /** Null while it is written or waits. */
  readonly result: Generated | null;
}

interface Turn {
  readonly prompt: string;
  readonly answers: readonly Answer[];
}

const bytesPerWeight = 4;

export class ChatPanel extends LitElement {
  static override properties = {
    controls: { attribute: false },
    state: { attribute: false },
    turns: { state: true },
    prompt: { state: true },
    settings: { state: true },
    compared: { state: true },
    keptName: { state: true },
    isWriting: { state: true },
    isKeeping: { state: true },
    problem: { state: true },
  };

  static override styles = [baseStyles, panelStyles, chatStyles];

  controls!: WritingControls;
  state!: SessionState;
  private turns: readonly Turn[] = [];
  private prompt: string | null = null;
  private settings: WritingOptions = usualWriting;
  /** `KeptModel.id` to compare with; null: nothing. */
  private compared: number | null = null;
  private keptName = '';
  private isWriting = false;
  private isKeeping = false;
  private problem: Problem | null = null;
  #stopping: AbortController | null = null;

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#stopping?.abort();
  }

  /** What the field shows: what was typed, or where the run's samples begin. */
  get #asked(): string {
    return this.prompt ?? (this.state.hasChat ? '' : (this.state.sample?.prompt ?? ''));
  }

  async #write(): Promise<void> {
    const asked = this.#asked;
    if (this.isWriting || asked === '') return;
    const stopping = new AbortController();
    this.#stopping = stopping;
    this.isWriting = true;
    this.problem = null;
    const kept = this.state.kept.find(({ id }) => id === this.compared);
    const answers: Answer[] = [{ name: 'Now', weights: null, text: '', result: null }];
    if (kept) answers.push({ name: kept.name, weights: kept.id, text: '', result: null });
    const before = this.state.hasChat ? this.turns : [];
    this.turns = [...before, { prompt: asked, answers }];
    if (this.state.hasChat) this.prompt = '';
    // One seed for both: what differs is the weights.
    const { seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0 } = this.settings;
    try {
      // One after another: each has the GPU, and the memory for a cache, to itself.
      for (const [index, { weights }] of answers.entries()) {
        if (stopping.signal.aborted) break;
        const result = await this.controls.generate(this.state.hasChat ? conversation(before, asked) : asked, {
          ...this.settings,
          seed,
          ...(weights !== null && { weights }),
          signal: stopping.signal,
          onText: (text) => this.#answer(index, { text }),
        });
        this.#answer(index, { text: result.text, result });
      }
    } catch (error) {
      if (!stopping.signal.aborted) this.problem = problemOf(error);
      if (this.turns.at(-1)?.answers.every(({ text }) => text === '') === true) {
        this.turns = before;
        this.prompt = asked;
      }
    } finally {
      this.isWriting = false;
      this.#stopping = null;
    }
  }

  /** Changes an answer of the last turn. */
  #answer(index: number, part: Partial<Answer>): void {
    const last = this.turns.at(-1);
    const answer = last?.answers[index];
    if (!last || !answer || (answer.result !== null && part.result === undefined)) return;
    this.turns = this.turns.with(this.turns.length - 1, { ...last, answers: last.answers.with(index, { ...answer, ...part }) });
  }

  async #keep(): Promise<void> {
    this.isKeeping = true;
    this.problem = null;
    try {
      const name = this.keptName.trim() || `step ${formatInteger(this.state.step)}`;
      this.compared = (await this.controls.keep(name)).id;
      this.keptName = '';
    } catch (error) {
      this.problem = problemOf(error);
    } finally {
      this.isKeeping = false;
    }
  }

  async #drop(id: number): Promise<void> {
    if (this.compared === id) this.compared = null;
    try {
      await this.controls.drop(id);
    } catch (error) {
      this.problem = problemOf(error);
    }
  }

  #onKey(event: KeyboardEvent): void {
    if (event.key !== 'Enter' || event.isComposing || !(event.ctrlKey || event.metaKey || (this.state.hasChat && !event.shiftKey))) return;
    event.preventDefault();
    void this.#write();
  }

  #answerView({ name, text, result }: Answer, prompt: string): unknown {
    const steps = result === null ? '' : result.fromStep === result.toStep ? `step ${formatInteger(result.toStep)}` : `steps ${formatInteger(result.fromStep)} to ${formatInteger(result.toStep)}`;
    const speed = result === null ? (this.isWriting ? 'writing…' : 'stopped') : formatTokensPerSecond(result.tokensPerSecond);
    return html`<div class="answer">
      <h3><span>${name}${steps === '' ? '' : html` <span class="soft">${steps}</span>`}</span><span class="soft data" data-testid="writing-speed">${speed}</span></h3>
      <p class="text" tabindex="0" role="group" aria-label="Answer: ${name}" aria-busy=${result === null && this.isWriting ? 'true' : 'false'}
        data-testid="writing-text">${this.state.hasChat ? nothing : html`<mark>${prompt}</mark>`}${text}</p>
    </div>`;
  }

  #turns(): unknown {
    if (this.turns.length === 0) return nothing;
    return html`<div class="turns">
      ${this.turns.map(
        ({ prompt, answers }) => html`${this.state.hasChat ? html`<p class="asked"><span class="unseen">You: </span>${prompt}</p>` : nothing}
          <div class="answers">${answers.map((answer) => this.#answerView(answer, prompt))}</div>`,
      )}
    </div>`;
  }

  #compareField(): unknown {
    const { kept } = this.state;
    if (kept.length === 0) return nothing;
    return html`<label>
      Beside
      <select
        data-testid="writing-compare"
        .value=${live(String(this.compared ?? ''))}
        @change=${(event: Event) => {
          const { value } = event.target as HTMLSelectElement;
          this.compared = value === '' ? null : Number(value);
        }}
      >
        <option value="">nothing</option>
        ${kept.map(({ id, name, step }) => html`<option value=${id} ?selected=${id === this.compared}>${name} (step ${formatInteger(step)})</option>`)}
      </select>
    </label>`;
  }

  #keptView(): unknown {
    const { kept, settings } = this.state;
    const bytes = settings === null ? null : parameterLayoutOf(settings.model).totalElements * bytesPerWeight;
    return html`<details>
      <summary>Compare with how it is now</summary>
      <div class="kept">
        <p class="small soft">
          Keep the weights under a name, say before fine-tuning, and later see both answers to one prompt. They stay on this device
          until you drop them or leave the room.
        </p>
        <form class="keep" @submit=${(event: Event) => {
          event.preventDefault();
          void this.#keep();
        }}>
          <label>
            Name
            <input data-testid="keep-name" maxlength="40" placeholder="step ${this.state.step}" .value=${live(this.keptName)}
              @input=${(event: Event) => (this.keptName = (event.target as HTMLInputElement).value)} />
          </label>
          <button data-testid="keep" ?disabled=${this.isKeeping}>
            Keep${bytes === null ? '' : html` <span class="data">(${formatBytes(bytes)})</span>`}
          </button>
        </form>
        <ul>
          ${kept.map(
            ({ id, name, step, bytes: taken }) => html`<li>
              <span>${name} <span class="small soft">step ${formatInteger(step)}, ${formatBytes(taken)} of GPU memory</span></span>
              <button class="plain" aria-label="Drop ${name}" @click=${() => void this.#drop(id)}>Drop</button>
            </li>`,
          )}
        </ul>
      </div>
    </details>`;
  }

  override render(): unknown {
    const { hasChat } = this.state;
    const problem = this.problem;
    return html`<section aria-label="Try the model">
      <panel-header heading="Try the model">
        ${hasChat ? 'Ask the model something' : 'Give the model the beginning of a text'}; it writes token by token, each drawn from what it thinks likely. While it
        learns, it writes with the weights as they are at each token, and training goes on; the answer says of which steps it is.
      </panel-header>
      ${this.#turns()}
      ${problem === null ? nothing : html`<p class="error" role="alert">${problem.message} ${problem.whatToDo}</p>`}
      <form
        @submit=${(event: Event) => {
          event.preventDefault();
          void this.#write();
        }}
      >
        <label class="prompt">
          ${hasChat ? 'Your message' : 'Text to continue'}
          <textarea class="prompt" rows="2" data-testid="writing-prompt" .value=${live(this.#asked)}
            @input=${(event: Event) => (this.prompt = (event.target as HTMLTextAreaElement).value)}
            @keydown=${(event: KeyboardEvent) => this.#onKey(event)}></textarea>
        </label>
        <div class="actions">
          ${this.isWriting
            ? html`<button type="button" data-testid="writing-stop" @click=${() => this.#stopping?.abort()}>Stop</button>`
            : html`<button class="primary" data-testid="write" ?disabled=${!this.state.canGenerate || this.#asked === ''}>${hasChat ? 'Send' : 'Continue'}</button>`}
          ${hasChat && this.turns.length > 0 && !this.isWriting
            ? html`<button type="button" @click=${() => (this.turns = [])}>New conversation</button>`
            : nothing}
          <span class="unseen" role="status">${this.isWriting ? 'The model is writing' : this.turns.length > 0 ? 'The model has written' : ''}</span>
          ${this.#compareField()}
        </div>
      </form>
      <details>
        <summary>How it writes</summary>
        <writing-settings .settings=${this.settings} @settings=${(event: CustomEvent<WritingOptions>) => (this.settings = event.detail)}></writing-settings>
      </details>
      ${this.#keptView()}
    </section>`;
  }
}

/** The turns so far as the run's own weights answered them, and the new message. */
function conversation(turns: readonly Turn[], asked: string): readonly ChatMessage[] {
  return [
    ...turns.flatMap(({ prompt, answers: [own] }): ChatMessage[] => [
      { role: 'user', content: prompt },
      { role: 'assistant', content: own?.text ?? '' },
    ]),
    { role: 'user', content: asked },
  ];
}

customElements.define('chat-panel', ChatPanel);
