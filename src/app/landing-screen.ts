/**
 * The first screen: what this is, what to train, go. Asks the session what a choice amounts to, to start or continue a
 * run; sends a pasted link on to the join screen through the address bar.
 */
import { LitElement, html, nothing } from 'lit';
import { tokenizerFacts } from '../data/serialized-tokenizer.ts';
import type { TextChoice, TokenizerChoice } from '../data/tokenizer-choice.ts';
import { problemOf } from '../session/problems.ts';
import type { OwnText } from './own-text.ts';
import type { CreateSettings, PreparedData, PresetId, RunEstimate, RunSettings, SavedRun, SessionController, SessionState } from '../session/types.ts';
import { baseStyles, panelStyles } from './base-styles.ts';
import { landingStyles } from './landing-styles.ts';
import { openExport } from './open-export.ts';
import type { ModelToUse } from './open-model.ts';
import { browserProblem, readPastedLink, thisBrowser } from './problem.ts';
import type { Problem } from './problem.ts';
import { rememberedName } from './preferences.ts';
import { createSettings } from './settings-fields.ts';
import type { Edits } from './settings-fields.ts';
import './curve-figure.ts';
import './name-field.ts';
import './own-text.ts';
import './preset-picker.ts';
import './problem-banner.ts';
import './run-figures.ts';
import './run-settings.ts';
import './saved-runs.ts';
import './tokenizer-choice.ts';
import './tokenizing-progress.ts';

/** Texts that have words to learn from. */
const withWords: ReadonlySet<PresetId> = new Set(['moby-dick', 'own-text']);
/** Long enough not to compute for every key, short enough to feel live. */
const estimateDelayMs = 150;

export class LandingScreen extends LitElement {
  static override properties = {
    controller: { attribute: false },
    problem: { attribute: false },
    tokenizing: { attribute: false },
    tokenizer: { state: true },
    isTokenizerUsable: { state: true },
    preset: { state: true },
    text: { state: true },
    data: { state: true },
    edits: { state: true },
    defaults: { state: true },
    estimate: { state: true },
    name: { state: true },
    runs: { state: true },
    own: { state: true },
    settingsError: { state: true },
    isStarting: { state: true },
    isValid: { state: true },
    pasted: { state: true },
    pastedProblem: { state: true },
    beginning: { state: true },
    isOpening: { state: true },
  };

  static override styles = [baseStyles, panelStyles, landingStyles];

  controller!: SessionController;
  /** The session's problem, if it has one. */
  problem: Problem | null = null;
  /** How far the text of the run that is about to start is tokenized. */
  tokenizing: SessionState['tokenizing'] = null;
  private tokenizer: TokenizerChoice = { kind: 'characters' };
  /** The number of tokens can be used as it stands in its field. */
  private isTokenizerUsable = true;
  private preset: PresetId = 'repeated-pattern';
  private text = '';
  /** Of files, instead of a text. */
  private data: PreparedData | null = null;
  private edits: Edits = {};
  private defaults: RunSettings | null = null;
  private estimate: RunEstimate | null = null;
  private name = rememberedName();
  private runs: readonly SavedRun[] = [];
  /** What went wrong with something done here. */
  private own: Problem | null = null;
  /** Why the settings could not even be judged. */
  private settingsError: Problem | null = null;
  private isStarting = false;
  /** Every setting can be used as it stands in its field. */
  private isValid = true;
  private pasted = '';
  private pastedProblem: Problem | null = null;
  /** What the run is to begin with instead of fresh weights. */
  private beginning: ModelToUse | null = null;
  /** The part of the page that opens files is there. */
  private isOpening = false;

  readonly #browserProblem = browserProblem(thisBrowser());
  #question = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#estimate();
    void this.#loadRuns();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  #settings(): CreateSettings {
    const name = this.name.trim();
    const settings = createSettings(this.preset, this.defaults, this.edits, {
      ...(this.preset !== 'own-text' ? {} : this.data === null ? { text: this.text } : { data: this.data }),
      ...(name === '' ? {} : { name }),
      ...(this.tokenizer.kind === 'characters' ? {} : { tokenizer: this.tokenizer }),
    });
    return this.beginning === null ? settings : { ...settings, start: { kind: 'files', files: this.beginning.files } };
  }

  #estimateSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#estimate(), estimateDelayMs);
  }

  /** Answers to questions that were superseded meanwhile are dropped. */
  async #estimate(): Promise<void> {
    const question = ++this.#question;
    try {
      const estimate = await this.controller.estimate(this.#settings());
      if (question !== this.#question) return;
      this.estimate = estimate;
      if (this.defaults === null) this.defaults = estimate.settings;
      this.settingsError = null;
    } catch (error) {
      if (question === this.#question) this.settingsError = problemOf(error);
    }
  }

  async #loadRuns(): Promise<void> {
    try {
      this.runs = await this.controller.savedRuns();
    } catch (error) {
      this.own = problemOf(error);
    }
  }

  #pick(preset: PresetId): void {
    this.preset = preset;
    this.edits = {};
    this.defaults = null;
    this.isValid = true;
    this.tokenizer = { kind: 'characters' };
    this.isTokenizerUsable = true;
    this.#estimateSoon();
  }

  #setText(text: string): void {
    this.text = text;
    // Vocabulary and thus every figure depend on the text; a person's changes stay.
    this.#estimateSoon();
  }

  /** A model that the run begins with brings its tokenizer along. */
  readonly #textChoice = async (): Promise<TextChoice> =>
    this.beginning === null ? this.tokenizer : { kind: 'given', tokenizer: await this.controller.files.tokenizerOf(this.beginning.files) };

  /** They were read by another tokenizer. */
  #readFilesAgain(): void {
    this.renderRoot.querySelector<OwnText>('own-text')?.readAgain();
  }

  #setTokenizer(choice: TokenizerChoice | null): void {
    this.isTokenizerUsable = choice !== null;
    if (choice === null) return;
    this.tokenizer = choice;
    this.#readFilesAgain();
    this.#estimateSoon();
  }

  #setData(data: PreparedData | null): void {
    this.data = data;
    // Conversations are not read by character, whatever was chosen.
    const facts = data === null ? null : tokenizerFacts(data.tokenizer);
    if (facts?.kind === 'bpe' && this.beginning === null) this.tokenizer = { kind: 'bpe', vocabularySize: facts.vocabularySize };
    this.#estimateSoon();
  }

  #setEdits(edits: Edits): void {
    this.edits = edits;
    this.#estimateSoon();
  }

  async #start(action: () => Promise<unknown>): Promise<void> {
    this.isStarting = true;
    this.own = null;
    try {
      await action();
    } catch (error) {
      this.own = problemOf(error);
    } finally {
      this.isStarting = false;
    }
  }

  async #showOpener(): Promise<void> {
    try {
      await import('./open-model.ts');
      this.isOpening = true;
    } catch (error) {
      this.own = problemOf(error);
    }
  }

  #beginWith(beginning: ModelToUse | null): void {
    this.beginning = beginning;
    this.#readFilesAgain();
    this.#estimateSoon();
  }

  async #export(room: string): Promise<void> {
    const title = this.runs.find((run) => run.room === room)?.title ?? '';
    try {
      await openExport(this.controller.files, room, title);
    } catch (error) {
      this.own = problemOf(error);
    }
  }

  #openForm(): unknown {
    return html`<section aria-labelledby="open-heading">
      <h2 id="open-heading">Open a model or run</h2>
      ${this.isOpening
        ? html`<open-model
            .files=${this.controller.files}
            @use-model=${(event: CustomEvent<ModelToUse>) => this.#beginWith(event.detail)}
            @run-kept=${() => void this.#loadRuns()}
          ></open-model>`
        : html`<button data-testid="open-files" @click=${() => void this.#showOpener()}>Open files…</button>`}
    </section>`;
  }

  /** What the run begins with, where that is not the usual. */
  #beginningNote(): unknown {
    if (this.beginning === null) return nothing;
    return html`<p data-testid="begins-with">
      Begins with the weights of <strong>${this.beginning.given.name}</strong>; the model’s settings are its own.
      <button class="plain" data-testid="begin-fresh" @click=${() => this.#beginWith(null)}>Begin with fresh weights</button>
    </p>`;
  }

  async #delete(room: string): Promise<void> {
    try {
      await this.controller.deleteRun(room);
    } catch (error) {
      this.own = problemOf(error);
    }
    await this.#loadRuns();
  }

  #showRuns(): void {
    const heading = this.renderRoot.querySelector<HTMLElement>('#continue-heading');
    heading?.scrollIntoView({ block: 'start' });
    heading?.focus({ preventScroll: true });
  }

  #join(event: Event): void {
    event.preventDefault();
    const link = readPastedLink(this.pasted);
    this.pastedProblem = link.problem;
    if (link.address === null) return;
    location.hash = new URLSearchParams({ room: link.address.room, key: link.address.key }).toString();
  }

  #startForm(): unknown {
    const needsText = this.preset === 'own-text' && this.text === '' && this.data === null;
    const settingsProblem = needsText ? null : (this.settingsError ?? this.estimate?.problem ?? null);
    const blocking = this.#browserProblem ?? settingsProblem;
    const isValid = this.isValid && this.isTokenizerUsable;
    const unit = this.tokenizer.kind === 'characters' ? 'characters' : 'tokens';
    return html`<section class="start" aria-labelledby="start-heading">
      <h2 id="start-heading">The run</h2>
      <name-field .name=${this.name} @name=${(event: CustomEvent<string>) => (this.name = event.detail)}></name-field>
      ${this.#beginningNote()}
      <problem-banner .problem=${settingsProblem}></problem-banner>
      <button
        class="primary go"
        data-testid="start"
        ?disabled=${this.isStarting || needsText || !isValid || blocking !== null}
        @click=${() => void this.#start(() => this.controller.create(this.#settings()))}
      >
        ${this.isStarting ? 'Starting…' : 'Start training'}
      </button>
      <tokenizing-progress .progress=${this.tokenizing} @cancel=${() => this.controller.cancelTokenizing()}></tokenizing-progress>
      <p class="soft small" aria-live="polite">
        ${needsText
          ? 'Your text is still missing.'
          : isValid
            ? 'Starts on this device alone; the room’s link is there at once.'
            : 'One of the settings can’t be used as it is.'}
      </p>
      <run-figures .estimate=${this.estimate?.problem === null ? this.estimate : null}></run-figures>
      <p class="soft small">
        Before it has learned anything, a model can only guess: its loss then is ln V, the surprise of drawing one of V
        ${unit} blindly. Training brings it down from there.
      </p>
    </section>`;
  }

  #joinForm(): unknown {
    return html`<section aria-labelledby="join-heading">
      <h2 id="join-heading">Join a room</h2>
      <form @submit=${(event: Event) => this.#join(event)}>
        <label for="link">Paste a room link</label>
        <div class="paste">
          <input
            id="link"
            data-testid="paste-link"
            autocomplete="off"
            spellcheck="false"
            placeholder="https://…/#room=…&key=…"
            .value=${this.pasted}
            @input=${(event: Event) => (this.pasted = (event.target as HTMLInputElement).value)}
          />
          <button data-testid="open-link">Open</button>
        </div>
      </form>
      <problem-banner .problem=${this.pastedProblem}></problem-banner>
    </section>`;
  }

  #dismiss(): void {
    this.own = null;
    this.controller.dismissProblem();
  }

  override render(): unknown {
    const problem = this.own ?? this.problem;
    return html`
      <div class="hero">
        <div class="words">
          <h1>Train a small language model together, each browser tab doing a share of the work.</h1>
          <p class="read soft">
            Choose a text and start. Whoever opens your link helps: their tab computes with its own GPU, everybody watches one
            loss curve, and nothing is installed.
          </p>
          ${this.runs.length === 0
            ? nothing
            : html`<p>
                <button @click=${() => this.#showRuns()}>
                  ${this.runs.length === 1 ? 'Continue your saved run' : `Continue one of ${this.runs.length} saved runs`}
                </button>
              </p>`}
        </div>
        <curve-figure></curve-figure>
      </div>
      <problem-banner
        class=${problem === null ? '' : 'has-problem'}
        .problem=${problem}
        dismissible
        @dismiss=${() => this.#dismiss()}
      ></problem-banner>
      ${this.#browserProblem === null
        ? nothing
        : html`<div class="browser-problem" data-testid="device-problem">
            <problem-banner .problem=${this.#browserProblem}></problem-banner>
            <p class="soft">You can still open a room link below and watch.</p>
          </div>`}
      <div class="columns">
        <section class="choice" aria-labelledby="choose-heading">
          <h2 id="choose-heading">What to train on</h2>
          <preset-picker .picked=${this.preset} @pick=${(event: CustomEvent<PresetId>) => this.#pick(event.detail)}></preset-picker>
          ${this.preset === 'own-text'
            ? html`<own-text .text=${this.text} .tokenizer=${this.#textChoice} @text=${(event: CustomEvent<string>) => this.#setText(event.detail)} @data=${(event: CustomEvent<PreparedData | null>) => this.#setData(event.detail)}></own-text>`
            : nothing}
          ${withWords.has(this.preset)
            ? html`<tokenizer-choice
                .choice=${this.tokenizer}
                @tokenizer=${(event: CustomEvent<TokenizerChoice | null>) => this.#setTokenizer(event.detail)}
              ></tokenizer-choice>`
            : nothing}
          <run-settings
            .defaults=${this.defaults}
            .effective=${this.estimate?.problem === null ? this.estimate.settings : null}
            .edits=${this.edits}
            @edits=${(event: CustomEvent<Edits>) => this.#setEdits(event.detail)}
            @validity=${(event: CustomEvent<boolean>) => (this.isValid = event.detail)}
          ></run-settings>
        </section>
        ${this.#startForm()}
        <div class="more">
          ${this.runs.length === 0
            ? nothing
            : html`<section class="continue" aria-labelledby="continue-heading">
                <h2 id="continue-heading" tabindex="-1">Continue</h2>
                <saved-runs
                  .runs=${this.runs}
                  .disabled=${this.isStarting || this.#browserProblem !== null}
                  @continue-run=${(event: CustomEvent<string>) =>
                    void this.#start(() => this.controller.continueRun(event.detail))}
                  @save-run=${(event: CustomEvent<string>) => void this.#export(event.detail)}
                  @delete-run=${(event: CustomEvent<string>) => void this.#delete(event.detail)}
                ></saved-runs>
              </section>`}
          ${this.#joinForm()} ${this.#openForm()}
        </div>
      </div>
    `;
  }
}

customElements.define('landing-screen', LandingScreen);
