/** About how large a model's files become, before any is made. Tokenizer and configuration, some kilobytes, are not counted. */
import { parameterShapes } from '../../model/parameters.ts';
import type { DecoderConfig } from '../../model/types.ts';
import type { ExportFormat } from './types.ts';

export interface ExportChoice {
  readonly format: ExportFormat;
  readonly bytes: number;
}

const bytesPerNumber = { f32: 4, bf16: 2, f16: 2, q8_0: 34 / 32 } as const;

/** `optimizerParts`: how many buffers as large as the weights go along in a run file. */
export function exportChoices(config: DecoderConfig, optimizerParts: number, corpusTokens: number): readonly ExportChoice[] {
  const shapes = parameterShapes(config).map(([, shape]) => ({ count: shape.reduce((product, extent) => product * extent, 1), isVector: shape.length < 2 }));
  const count = shapes.reduce((sum, shape) => sum + shape.count, 0);
  const vectors = shapes.reduce((sum, shape) => sum + (shape.isVector ? shape.count : 0), 0);
  const inGguf = (type: 'f32' | 'f16' | 'q8_0'): number => Math.round(vectors * bytesPerNumber.f32 + (count - vectors) * bytesPerNumber[type]);
  return [
    ...(['f32', 'bf16', 'f16'] as const).map((type) => ({ format: { kind: 'hf', type } as const, bytes: count * bytesPerNumber[type] })),
    ...(['f32', 'f16', 'q8_0'] as const).map((type) => ({ format: { kind: 'gguf', type } as const, bytes: inGguf(type) })),
    { format: { kind: 'run' }, bytes: 4 * (count * (1 + optimizerParts) + corpusTokens) },
  ];
}
