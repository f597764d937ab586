/**
 * The task in jax-js as its README and its own examples write such a thing: one jitted function for loss, gradients and
 * AdamW, whose arguments it owns (so their memory is free for the results), `nn.dotProductAttention`, `nn.logSoftmax`.
 * AdamW is written out: @jax-js/optax was not on the registry in November 2026.
 */
import { weightOf } from '../../../src/data/batches.ts';
import { embeddingName, finalNormName, layerNames } from '../../../src/model/parameters.ts';
import { updateFactors } from '../../../src/optim/adamw-rule.ts';
import type { Jax, JaxArray, JaxDevice, JaxRecord } from './jax-types.ts';
import { adapterName } from './ours.ts';
import { ropeTables } from './rope-tables.ts';
import { wholeBatch } from './task.ts';
import type { Contestant, Task } from './task.ts';
import { weightsForPeers } from './weights.ts';

/** Not a plain import: the package is installed by the benchmark alone, and the project is type-checked without it. */
const packages = import.meta.glob<Jax>('./node_modules/@jax-js/jax/dist/index.js');

export async function openJax(task: Task, device: JaxDevice): Promise<Contestant> {
  const load = Object.values(packages)[0];
  if (load === undefined) throw new Error('jax-js is not installed');
  const jax = await load();
  await jax.init(device);
  jax.defaultDevice(device);
  const { numpy } = jax;

  const weights = weightsForPeers(task);
  const decaying = new Set(weights.filter(({ decays }) => decays).map(({ name }) => name));
  const zeros = (): JaxRecord => Object.fromEntries(weights.map(({ name, shape }) => [name, numpy.zeros([...shape])]));
  let state: TrainingState = [
    Object.fromEntries(weights.map(({ name, shape, data }) => [name, numpy.array(data, { shape: [...shape] })])),
    zeros(),
    zeros(),
  ];
  const step = jax.jit(trainingStep(jax, task, decaying));
  const drawBatch = wholeBatch(task);
  let update = 0;

  function trainStep(): JaxArray {
    const rows = drawBatch(update);
    update++;
    const { learningRate } = task.optimizer;
    const { stepSize, rootCorrection2 } = updateFactors(task.optimizer, { learningRate, update, weightSum: 1 });
    const weight = weightOf(rows);
    const [next, loss] = step(
      state,
      numpy.array(Int32Array.from(rows.inputIds), { dtype: numpy.int32 }),
      numpy.array(Int32Array.from(rows.targets), { dtype: numpy.int32 }),
      numpy.array(rows.lossWeights.map((value) => value / weight), {}),
      numpy.array(Float32Array.of(stepSize), {}),
      numpy.array(Float32Array.of(rootCorrection2), {}),
    );
    state = next;
    return loss;
  }

  const gpu = device === 'webgpu' ? jax.getWebGPUDevice() : null;
  return {
    adapter: gpu === null ? `${navigator.hardwareConcurrency} threads` : adapterName(gpu.adapterInfo),
    async train(steps) {
      const losses: JaxArray[] = [];
      const startedMs = performance.now();
      let last = Promise.resolve<unknown>(null);
      for (let count = 0; count < steps; count++) {
        const loss = trainStep();
        losses.push(loss);
        const done = jax.blockUntilReady(loss);
        // Its documentation asks to wait now and then; one step ahead, so that the device always has work.
        await last;
        last = done;
      }
      await last;
      for (const part of state) await jax.blockUntilReady(part);
      const ms = performance.now() - startedMs;
      const read = await Promise.all(losses.map((loss) => loss.data()));
      return { ms, losses: read.map((values) => values[0] ?? Number.NaN) };
    },
  };
}

/** Weights and AdamW's two moments. */
type TrainingState = [weights: JaxRecord, firstMoments: JaxRecord, secondMoments: JaxRecord];

function trainingStep(jax: Jax, task: Task, decaying: ReadonlySet<string>) {
  const { numpy, tree } = jax;
  const { beta1, beta2, epsilon, learningRate, weightDecay } = task.optimizer;
  const lossAndGradients = jax.valueAndGrad(lossOf(jax, task));

  return (
    [weights, firstMoments, secondMoments]: TrainingState,
    ids: JaxArray,
    targets: JaxArray,
    lossWeights: JaxArray,
    stepSize: JaxArray,
    rootCorrection2: JaxArray,
  ): [TrainingState, JaxArray] => {
    const [loss, gradients] = lossAndGradients(tree.ref(weights), ids, targets, lossWeights);
    const next: TrainingState = [{}, {}, {}];
    for (const [name, gradient] of Object.entries(gradients)) {
      const [weight, firstBefore, secondBefore] = [weights[name], firstMoments[name], secondMoments[name]];
      if (!weight || !firstBefore || !secondBefore) throw new Error(`no state of ${name}`);
      const first = firstBefore.mul(beta1).add(gradient.ref.mul(1 - beta1));
      const second = secondBefore.mul(beta2).add(numpy.square(gradient).mul(1 - beta2));
      const change = first.ref.mul(stepSize.ref).div(numpy.sqrt(second.ref).div(rootCorrection2.ref).add(epsilon));
      const kept = decaying.has(name) ? weight.mul(1 - learningRate * weightDecay) : weight;
      next[0][name] = kept.sub(change);
      next[1][name] = first;
      next[2][name] = second;
    }
    stepSize.dispose();
    rootCorrection2.dispose();
    return [next, loss];
  };
}

/** (weights, ids [rows · context], targets, loss weights that add up to 1) → mean loss. */
function lossOf(jax: Jax, { config, contextLength }: Task) {
  const { nn, numpy } = jax;
  const { hidden_size: hidden, num_attention_heads: heads, head_dim: headSize, vocab_size: vocabulary } = config;
  const tables = ropeTables(contextLength, headSize, config.rope_theta);
  const shape = [contextLength, 1, headSize];
  const cosines = numpy.array(tables.cosines, { shape });
  const sines = numpy.array(tables.sines, { shape });

  const normed = (x: JaxArray, weight: JaxArray): JaxArray => {
    const meanSquare = numpy.mean(numpy.square(x.ref), -1, { keepdims: true });
    return x.mul(numpy.reciprocal(numpy.sqrt(meanSquare.add(config.rms_norm_eps)))).mul(weight);
  };
  const rotated = (x: JaxArray): JaxArray => {
    const [low, high] = numpy.split(x.ref, 2, -1);
    if (!low || !high) throw new Error('a head has no halves');
    return x.mul(cosines.ref).add(numpy.concatenate([high.neg(), low], -1).mul(sines.ref));
  };

  return (weights: JaxRecord, ids: JaxArray, targets: JaxArray, lossWeights: JaxArray): JaxArray => {
    const weight = (name: string): JaxArray => {
      const array = weights[name];
      if (array === undefined) throw new Error(`no weight ${name}`);
      return array;
    };
    const embedding = weight(embeddingName);
    let stream = numpy.take(embedding.ref, ids, 0);
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      const names = layerNames(layer);
      const x = normed(stream.ref, weight(names.inputNorm));
      const project = (name: string): JaxArray => numpy.matmul(x.ref, weight(name)).reshape([-1, contextLength, heads, headSize]);
      const query = rotated(project(names.query));
      const key = rotated(project(names.key));
      const value = project(names.value);
      x.dispose();
      const mixed = nn.dotProductAttention(query, key, value, { isCausal: true }).reshape([-1, hidden]);
      stream = stream.add(numpy.matmul(mixed, weight(names.output)));
      const y = normed(stream.ref, weight(names.feedForwardNorm));
      const gate = nn.silu(numpy.matmul(y.ref, weight(names.gate)));
      const inner = gate.mul(numpy.matmul(y, weight(names.up)));
      stream = stream.add(numpy.matmul(inner, weight(names.down)));
    }
    const logits = numpy.matmul(normed(stream, weight(finalNormName)), numpy.matrixTranspose(embedding));
    const scores = nn.logSoftmax(logits, -1).mul(nn.oneHot(targets, vocabulary)).sum(-1);
    return scores.mul(lossWeights).sum().neg();
  };
}
