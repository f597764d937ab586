/** The few words of node-llama-cpp 3 that `read.mjs` uses: the package has its own types, but is no package of the project. */

export interface Job {
  readonly texts: readonly string[];
  readonly prompt: readonly number[];
  readonly count: number;
}

interface Sequence {
  evaluate(tokens: readonly number[], options: { readonly temperature: number; readonly yieldEogToken: boolean }): AsyncIterable<number>;
}

interface Model {
  readonly tokens: { readonly eos: number | null };
  createContext(options: Readonly<Record<string, unknown>>): Promise<{ getSequence(): Sequence }>;
  tokenize(text: string, specialTokens: boolean): readonly number[];
  detokenize(tokens: readonly number[]): string;
}

export interface NodeLlamaCpp {
  readonly LlamaLogLevel: { readonly error: string };
  getLlama(options: Readonly<Record<string, unknown>>): Promise<{ loadModel(options: { readonly modelPath: string }): Promise<Model> }>;
}
