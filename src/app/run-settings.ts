/** The settings, folded away: one field and one plain sentence each. Emits what a person changed; checks only ranges. */
import { LitElement, css, html, noChange, nothing } from 'lit';
import { modelSizes } from '../data/presets.ts';
import type { RunSettings } from '../session/types.ts';
import { baseStyles } from './base-styles.ts';
import { formatInteger } from './format.ts';
import { baseSettings, fieldGroups, readNumber, settingsFields, sizeNames, sizeOf, withSize } from './settings-fields.ts';
import type { Edits, FieldKey, SettingsField } from './settings-fields.ts';

/** @fires edits - detail: the new edits; validity - detail: whether every field can be used as typed */
export class RunSettingsElement extends LitElement {
  static override properties = {
    defaults: { attribute: false },
    effective: { attribute: false },
    edits: { attribute: false },
    typed: { state: true },
  };

  static override styles = [
    baseStyles,
    css`
      details {
        border-top: 1px solid var(--rule-strong);
        border-bottom: 1px solid var(--rule-strong);
      }
      summary {
        cursor: pointer;
        padding: var(--space-3) 0;
        font-weight: 600;
      }
      summary .soft {
        font-weight: 400;
      }
      fieldset {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr));
        gap: var(--space-4) var(--space-5);
        margin: 0;
        padding: var(--space-4) 0 var(--space-5);
        border: 0;
        border-top: 1px solid var(--rule);
      }
      legend {
        float: left;
        grid-column: 1 / -1;
        padding: 0;
        font: 600 var(--size-read) / 1.3 var(--face-read);
      }
      label {
        font-weight: 600;
      }
      .field > .soft {
        margin-top: var(--space-1);
      }
      .field .wrong {
        color: var(--bad);
      }
      [aria-invalid='true'] {
        border-color: var(--bad) !important;
      }
      .sizes {
        grid-column: 1 / -1;
        display: flex;
        flex-wrap: wrap;
        gap: var(--space-2);
      }
      .sizes button[aria-pressed='true'] {
        background: var(--accent-wash);
        border-color: var(--accent);
        color: var(--ink);
      }
      .sizes button {
        flex: 1 1 210px;
        padding-block: var(--space-2);
        font-weight: 500;
        text-align: left;
      }
      .foot {
        padding: 0 0 var(--space-4);
      }
    `,
  ];

  /** The preset's own settings; null until known. */
  defaults: RunSettings | null = null;
  /** Settings with the edits applied, as the session understood them. */
  effective: RunSettings | null = null;
  edits: Edits = {};
  /** What stands in fields that are being typed in, which need not be a number yet ("0.", "3e"). */
  private typed: ReadonlyMap<string, string> = new Map();

  #emit(edits: Edits): void {
    this.dispatchEvent(new CustomEvent<Edits>('edits', { detail: edits }));
  }

  #setTyped(typed: ReadonlyMap<string, string>): void {
    this.typed = typed;
    const isValid = !settingsFields.some((field) => this.#isInvalid(field));
    this.dispatchEvent(new CustomEvent<boolean>('validity', { detail: isValid }));
  }

  #isInvalid(field: SettingsField): boolean {
    const typed = this.typed.get(field.key);
    return typed !== undefined && field.kind === 'number' && readNumber(field, typed) === null;
  }

  #edit(field: SettingsField, typed: string): void {
    const value = field.kind === 'number' ? readNumber(field, typed) : typed;
    this.#setTyped(new Map(this.typed).set(field.key, typed));
    if (value !== null) this.#emit({ ...this.edits, [field.key as FieldKey]: value });
  }

  /** Typing is over: a usable number is shown as it was understood. */
  #settle(field: SettingsField): void {
    if (this.#isInvalid(field)) return;
    const typed = new Map(this.typed);
    typed.delete(field.key);
    this.#setTyped(typed);
  }

  #replace(edits: Edits): void {
    this.#setTyped(new Map());
    this.#emit(edits);
  }

  override willUpdate(changed: Map<PropertyKey, unknown>): void {
    // Another preset: nothing of what was typed belongs to it.
    if (changed.has('defaults') && this.defaults === null && this.typed.size > 0) this.#setTyped(new Map());
  }

  #field(field: SettingsField, defaults: RunSettings): unknown {
    const value = this.edits[field.key as FieldKey] ?? field.read(this.effective ?? baseSettings(defaults, this.edits));
    const isInvalid = this.#isInvalid(field);
    const typed = this.typed.get(field.key);
    const helpId = `${field.key}-help`;
    const control =
      field.kind === 'number'
        ? html`<input
            id=${field.key}
            type="number"
            inputmode="decimal"
            min=${field.min}
            max=${field.max}
            step=${field.step}
            .value=${typed === '' ? noChange : (typed ?? String(value))}
            aria-describedby=${helpId}
            aria-invalid=${isInvalid ? 'true' : 'false'}
            data-testid="setting-${field.key}"
            @input=${(event: Event) => this.#edit(field, (event.target as HTMLInputElement).value)}
            @change=${() => this.#settle(field)}
          />`
        : html`<select
            id=${field.key}
            aria-describedby=${helpId}
            data-testid="setting-${field.key}"
            @change=${(event: Event) => this.#edit(field, (event.target as HTMLSelectElement).value)}
          >
            ${field.choices.map(
              (choice) => html`<option value=${choice.value} ?selected=${choice.value === value}>${choice.label}</option>`,
            )}
          </select>`;
    return html`<div class="field">
      <label for=${field.key}>${field.label}</label>
      ${control}
      <p class="small ${isInvalid ? 'wrong' : 'soft'}" id=${helpId}>
        ${isInvalid && field.kind === 'number'
          ? `Between ${formatInteger(field.min)} and ${field.max < 1 ? field.max : formatInteger(field.max)}${field.step === 'any' ? '' : ', a whole number'}.`
          : field.help}
      </p>
    </div>`;
  }

  #sizes(): unknown {
    const current = this.effective === null ? null : sizeOf(this.effective);
    return html`<div class="sizes" role="group" aria-label="Size of the model">
      ${sizeNames.map(
        (size) => html`<button
          type="button"
          aria-pressed=${current === size ? 'true' : 'false'}
          data-testid="size-${size}"
          @click=${() => this.#replace(withSize(this.edits, size))}
        >
          ${modelSizes[size].title}
        </button>`,
      )}
    </div>`;
  }

  override render(): unknown {
    const { defaults } = this;
    const changed = Object.keys(this.edits).length;
    return html`<details data-testid="settings">
      <summary>
        Settings <span class="soft">${changed === 0 ? '– the preset’s own are good' : `– ${changed} changed`}</span>
      </summary>
      ${defaults === null
        ? html`<p class="soft foot">They appear as soon as the preset is read.</p>`
        : fieldGroups.map(
            (group) => html`<fieldset>
              <legend>${group}</legend>
              ${group === 'Model' ? this.#sizes() : nothing}
              ${settingsFields.filter((field) => field.group === group).map((field) => this.#field(field, defaults))}
            </fieldset>`,
          )}
      ${changed > 0 || this.typed.size > 0
        ? html`<p class="foot"><button type="button" @click=${() => this.#replace({})}>Back to the preset’s settings</button></p>`
        : nothing}
    </details>`;
  }
}

customElements.define('run-settings', RunSettingsElement);
