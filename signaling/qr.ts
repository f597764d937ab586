/** A QR code as text for a terminal: two modules per character cell, dark on light whatever the terminal's colours. */
import { generate } from 'lean-qr';

/** The standard asks for four light modules around the code; cameras are content with two. */
const quietModules = 2;

/** `coloured`: say black on white with ANSI colours; without, light modules are drawn, as suits a dark terminal. */
export function qrText(content: string, coloured: boolean): string {
  const code = generate(content);
  const lines: string[] = [];
  for (let y = -quietModules; y < code.size + quietModules; y += 2) {
    let line = '';
    for (let x = -quietModules; x < code.size + quietModules; x += 1) {
      const upper = code.get(x, y) === coloured;
      const lower = (y + 1 < code.size + quietModules ? code.get(x, y + 1) : false) === coloured;
      line += upper ? (lower ? '█' : '▀') : lower ? '▄' : ' ';
    }
    lines.push(coloured ? `\u001b[30;107m${line}\u001b[0m` : line);
  }
  return `${lines.join('\n')}\n`;
}
