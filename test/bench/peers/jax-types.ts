/**
 * The part of jax-js that the benchmark uses, declared by hand: the package is not there when the project is
 * type-checked. Its own documentation says what each function does; signatures are narrowed to our calls.
 */

/** Owned by whoever it is passed to: every use but the last takes `.ref`. */
export interface JaxArray {
  readonly ref: JaxArray;
  add(other: JaxArray | number): JaxArray;
  sub(other: JaxArray | number): JaxArray;
  mul(other: JaxArray | number): JaxArray;
  div(other: JaxArray | number): JaxArray;
  neg(): JaxArray;
  sum(axis?: number): JaxArray;
  reshape(shape: number[]): JaxArray;
  dispose(): void;
  data(): Promise<ArrayLike<number>>;
}

export type JaxTree = JaxArray | readonly JaxArray[] | Readonly<Record<string, JaxArray>>;
export type JaxRecord = Record<string, JaxArray>;
export type JaxDevice = 'webgpu' | 'wasm';

export interface Jax {
  init(device: JaxDevice): Promise<JaxDevice[]>;
  defaultDevice(device: JaxDevice): JaxDevice;
  getWebGPUDevice(): GPUDevice | null;
  jit<Arguments extends unknown[], Result>(f: (...args: Arguments) => Result): (...args: Arguments) => Result;
  /** By the first argument. */
  valueAndGrad<First, Rest extends unknown[]>(
    f: (first: First, ...rest: Rest) => JaxArray,
  ): (first: First, ...rest: Rest) => [JaxArray, First];
  blockUntilReady<Tree extends JaxTree>(tree: Tree): Promise<Tree>;
  readonly tree: {
    ref<Tree extends JaxTree>(tree: Tree): Tree;
  };
  readonly nn: {
    logSoftmax(x: JaxArray, axis: number): JaxArray;
    oneHot(x: JaxArray, classes: number): JaxArray;
    silu(x: JaxArray): JaxArray;
    dotProductAttention(query: JaxArray, key: JaxArray, value: JaxArray, options: { readonly isCausal: boolean }): JaxArray;
  };
  readonly numpy: {
    readonly int32: 'int32';
    array(values: Float32Array | Int32Array, options: { readonly shape?: number[]; readonly dtype?: 'int32' }): JaxArray;
    zeros(shape: number[]): JaxArray;
    matmul(x: JaxArray, y: JaxArray): JaxArray;
    matrixTranspose(x: JaxArray): JaxArray;
    mean(x: JaxArray, axis: number, options: { readonly keepdims: boolean }): JaxArray;
    square(x: JaxArray): JaxArray;
    sqrt(x: JaxArray): JaxArray;
    reciprocal(x: JaxArray): JaxArray;
    split(x: JaxArray, sections: number, axis: number): JaxArray[];
    concatenate(xs: JaxArray[], axis: number): JaxArray;
    take(x: JaxArray, indices: JaxArray, axis: number): JaxArray;
  };
}
