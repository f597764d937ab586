/** A QR code as one SVG path, dark on light in both themes, since many phones read only that. Loads its encoder when needed. */
import { LitElement, css, html, nothing, svg } from 'lit';

/** Light modules around the code that readers rely on (ISO/IEC 18004 asks for four). */
const quietModules = 4;

export class QrCode extends LitElement {
  static override properties = { text: { type: String }, path: { state: true } };

  static override styles = css`
    :host {
      display: block;
      aspect-ratio: 1;
      background: #fff;
      border: 1px solid var(--rule);
      border-radius: var(--corner);
    }
    svg {
      display: block;
      width: 100%;
      height: 100%;
    }
  `;

  text = '';
  private path: { readonly d: string; readonly size: number } | null = null;

  override willUpdate(changed: Map<PropertyKey, unknown>): void {
    if (changed.has('text')) void this.#draw(this.text);
  }

  async #draw(text: string): Promise<void> {
    if (text === '') {
      this.path = null;
      return;
    }
    const { generate } = await import('lean-qr');
    if (text !== this.text) return;
    const code = generate(text);
    let d = '';
    for (let y = 0; y < code.size; y++) {
      for (let x = 0; x < code.size; x++) if (code.get(x, y)) d += `M${x} ${y}h1v1h-1z`;
    }
    this.path = { d, size: code.size };
  }

  override render(): unknown {
    if (this.path === null) return nothing;
    const { d, size } = this.path;
    const side = size + 2 * quietModules;
    return html`<svg
      viewBox="${-quietModules} ${-quietModules} ${side} ${side}"
      shape-rendering="crispEdges"
      role="img"
      aria-label="QR code of the room link"
    >
      ${svg`<path d=${d} fill="#000"></path>`}
    </svg>`;
  }
}

customElements.define('qr-code', QrCode);
