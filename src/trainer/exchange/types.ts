/** A model as it is exchanged with other programs: what every format is made of, and what is read from any of them. */
import type { TokenizerFiles } from '../../data/tokenizer-files.ts';
import type { DecoderConfig } from '../../model/types.ts';

export interface ModelParts {
  readonly name: string;
  readonly config: DecoderConfig;
  /** By the config's parameter layout. */
  readonly weights: Float32Array<ArrayBuffer>;
  /** Null where nobody knows it. */
  readonly tokenizer: TokenizerFiles | null;
}

/** A file to be written: its bytes are made as they are asked for. */
export interface OutputFile {
  readonly path: string;
  readonly size: number;
  readonly chunks: () => Iterable<Uint8Array<ArrayBuffer>>;
}

export const huggingFaceTypes = ['f32', 'bf16', 'f16'] as const;
export const ggufTypes = ['f32', 'f16', 'q8_0'] as const;
export type HuggingFaceType = (typeof huggingFaceTypes)[number];
export type GgufType = (typeof ggufTypes)[number];

/** What a model can be saved as from the page. */
export type ExportFormat =
  | { readonly kind: 'hf'; readonly type: HuggingFaceType }
  | { readonly kind: 'gguf'; readonly type: GgufType }
  /** A run file, with what of the optimizer there is. */
  | { readonly kind: 'run' };
