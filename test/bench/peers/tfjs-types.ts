/**
 * The part of TensorFlow.js that the benchmark uses, declared by hand: the packages are not there when the project is
 * type-checked. Its own documentation says what each function does; signatures are narrowed to our calls.
 */
export interface TfTensor {
  add(other: TfTensor | number): TfTensor;
  sub(other: TfTensor | number): TfTensor;
  mul(other: TfTensor | number): TfTensor;
  neg(): TfTensor;
  square(): TfTensor;
  mean(axis: number, keepDims: boolean): TfTensor;
  rsqrt(): TfTensor;
  sigmoid(): TfTensor;
  reshape(shape: number[]): TfTensor;
  transpose(permutation: number[]): TfTensor;
  dispose(): void;
  data(): Promise<Float32Array>;
}

export interface TfVariable extends TfTensor {
  readonly name: string;
  assign(value: TfTensor): void;
}

export interface TfOptimizer {
  computeGradients(f: () => TfTensor, variables: TfVariable[]): { readonly value: TfTensor; readonly grads: Record<string, TfTensor> };
  applyGradients(gradients: Record<string, TfTensor>): void;
}

export interface TfCore {
  setBackend(name: 'webgpu'): Promise<boolean>;
  ready(): Promise<void>;
  backend(): { readonly device: GPUDevice };
  tidy<Result>(f: () => Result): Result;
  keep<Tensor extends TfTensor>(tensor: Tensor): Tensor;
  tensor(values: Float32Array | Int32Array, shape: number[], dtype: 'float32' | 'int32'): TfTensor;
  variable(value: TfTensor, trainable: boolean, name: string): TfVariable;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  gather(x: TfTensor, indices: TfTensor): TfTensor;
  split(x: TfTensor, sections: number, axis: number): TfTensor[];
  concat(xs: TfTensor[], axis: number): TfTensor;
  softmax(x: TfTensor): TfTensor;
  oneHot(indices: TfTensor, depth: number): TfTensor;
  readonly losses: { softmaxCrossEntropy(labels: TfTensor, logits: TfTensor, weights: TfTensor): TfTensor };
  readonly train: { adam(learningRate: number, beta1: number, beta2: number, epsilon: number): TfOptimizer };
}
