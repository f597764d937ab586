/**
 * The task in TensorFlow.js on its WebGPU backend, as its guides write such a thing: variables, `tf.tidy`, the loss and
 * the optimizer of the library (`tf.train.adam` is PyTorch's Adam; the decay that makes it AdamW is one more assignment),
 * nothing read back before the end of a sample. Its flags stay as they are: on SwiftShader its packed matmul, forced,
 * took about as much processor time a step as its own choice of kernels (39 to 42 s against 44 s on shared cores).
 */
import { embeddingName, finalNormName, layerNames } from '../../../src/model/parameters.ts';
import { adapterName } from './ours.ts';
import { ropeTables } from './rope-tables.ts';
import { wholeBatch } from './task.ts';
import type { Contestant, Task } from './task.ts';
import type { TfCore, TfTensor, TfVariable } from './tfjs-types.ts';
import { weightsForPeers } from './weights.ts';

/** Not plain imports: the packages are installed by the benchmark alone, and the project is type-checked without them. */
const cores = import.meta.glob<TfCore>('./node_modules/@tensorflow/tfjs-core/dist/index.js');
/** Loaded for what they register with the core, as the package `@tensorflow/tfjs` does it. */
const registrations = import.meta.glob([
  './node_modules/@tensorflow/tfjs-core/dist/register_all_gradients.js',
  './node_modules/@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js',
  './node_modules/@tensorflow/tfjs-backend-webgpu/dist/index.js',
]);

async function loadTensorFlow(): Promise<TfCore> {
  const [loadCore] = Object.values(cores);
  if (loadCore === undefined) throw new Error('TensorFlow.js is not installed');
  const tf = await loadCore();
  for (const register of Object.values(registrations)) await register();
  if (!(await tf.setBackend('webgpu'))) throw new Error('TensorFlow.js finds no WebGPU');
  await tf.ready();
  return tf;
}

export async function openTensorFlow(task: Task): Promise<Contestant> {
  const tf = await loadTensorFlow();
  const { learningRate, beta1, beta2, epsilon, weightDecay } = task.optimizer;
  const weights = weightsForPeers(task);
  const variables = new Map(
    weights.map(({ name, shape, data }) => [name, tf.variable(tf.tensor(data, [...shape], 'float32'), true, name)]),
  );
  const decaying = weights.filter(({ decays }) => decays).map(({ name }) => named(variables, name));
  const optimizer = tf.train.adam(learningRate, beta1, beta2, epsilon);
  const lossOfBatch = lossOf(tf, task, variables);
  const drawBatch = wholeBatch(task);
  let step = 0;

  function trainStep(): TfTensor {
    const rows = drawBatch(step++);
    const positions = rows.inputIds.length;
    return tf.tidy(() => {
      const ids = tf.tensor(Int32Array.from(rows.inputIds), [positions], 'int32');
      const targets = tf.tensor(Int32Array.from(rows.targets), [positions], 'int32');
      const lossWeights = tf.tensor(rows.lossWeights, [positions], 'float32');
      const { value, grads } = optimizer.computeGradients(() => lossOfBatch(ids, targets, lossWeights), [...variables.values()]);
      for (const variable of decaying) variable.assign(variable.mul(1 - learningRate * weightDecay));
      optimizer.applyGradients(grads);
      return tf.keep(value);
    });
  }

  return {
    adapter: adapterName(tf.backend().device.adapterInfo),
    async train(steps) {
      const startedMs = performance.now();
      const { queue } = tf.backend().device;
      const kept: TfTensor[] = [];
      let last = Promise.resolve();
      for (let count = 0; count < steps; count++) {
        kept.push(trainStep());
        const done = queue.onSubmittedWorkDone();
        // One step ahead: the device always has work, and the queue is bounded.
        await last;
        last = done;
      }
      // Reading submits what is still unsent; it ends when the queue's work before it has, updates included.
      const read = await Promise.all(kept.map((loss) => loss.data()));
      await queue.onSubmittedWorkDone();
      const ms = performance.now() - startedMs;
      for (const loss of kept) loss.dispose();
      return { ms, losses: read.map(([loss = Number.NaN]) => loss) };
    },
  };
}

function named(variables: ReadonlyMap<string, TfVariable>, name: string): TfVariable {
  const variable = variables.get(name);
  if (variable === undefined) throw new Error(`no weight ${name}`);
  return variable;
}

/** What a masked score gets: far below any score, and finite, so that a row's maximum stays a number. */
const masked = -1e9;

/** (ids [rows · context], targets, loss weights of 0 and 1) → mean loss over the scored positions. */
function lossOf(tf: TfCore, { config, contextLength }: Task, variables: ReadonlyMap<string, TfVariable>) {
  const { hidden_size: hidden, num_attention_heads: heads, head_dim: headSize } = config;
  const tables = ropeTables(contextLength, headSize, config.rope_theta);
  const cosines = tf.tensor(tables.cosines, [contextLength, headSize], 'float32');
  const sines = tf.tensor(tables.sines, [contextLength, headSize], 'float32');
  const future = Float32Array.from({ length: contextLength ** 2 }, (_, index) => (index % contextLength > Math.floor(index / contextLength) ? masked : 0));
  const mask = tf.tensor(future, [contextLength, contextLength], 'float32');
  const weight = (name: string): TfVariable => named(variables, name);

  const normed = (x: TfTensor, name: string): TfTensor => {
    const scale = x.square().mean(-1, true).add(config.rms_norm_eps).rsqrt();
    return x.mul(scale).mul(weight(name));
  };
  /** [rows · context, hidden] → [rows, heads, context, head size] */
  const splitHeads = (x: TfTensor): TfTensor => x.reshape([-1, contextLength, heads, headSize]).transpose([0, 2, 1, 3]);
  const rotated = (x: TfTensor): TfTensor => {
    const [low, high] = tf.split(x, 2, -1);
    if (!low || !high) throw new Error('a head has no halves');
    return x.mul(cosines).add(tf.concat([high.neg(), low], -1).mul(sines));
  };

  return (ids: TfTensor, targets: TfTensor, lossWeights: TfTensor): TfTensor => {
    let stream = tf.gather(weight(embeddingName), ids);
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      const names = layerNames(layer);
      const x = normed(stream, names.inputNorm);
      const query = rotated(splitHeads(tf.matMul(x, weight(names.query))));
      const key = rotated(splitHeads(tf.matMul(x, weight(names.key))));
      const value = splitHeads(tf.matMul(x, weight(names.value)));
      const scores = tf.matMul(query, key, false, true).mul(1 / Math.sqrt(headSize)).add(mask);
      const mixed = tf.matMul(tf.softmax(scores), value).transpose([0, 2, 1, 3]).reshape([-1, hidden]);
      stream = stream.add(tf.matMul(mixed, weight(names.output)));
      const y = normed(stream, names.feedForwardNorm);
      const gate = tf.matMul(y, weight(names.gate));
      const inner = gate.mul(gate.sigmoid()).mul(tf.matMul(y, weight(names.up)));
      stream = stream.add(tf.matMul(inner, weight(names.down)));
    }
    const logits = tf.matMul(normed(stream, finalNormName), weight(embeddingName), false, true);
    return tf.losses.softmaxCrossEntropy(tf.oneHot(targets, config.vocab_size), logits, lossWeights);
  };
}
