// Global gradient norm, clipping and an update over flat buffers, in three steps of one submit.
//
//   squares:  parts[p] = sum over the 4096 elements of group p of (gradientSum[i] / weightSum)^2
//             parts[PARTS + p] = 1 where one of them is not finite, else 0
//   judge:    norm = sqrt(sum of parts); clip = min(1, gradientClip / (norm + 1e-6)), 1 where gradientClip is 0
//             status = norm, clip / weightSum, applied (1 or 0)
//   adamw:    g = gradientSum clip / weightSum;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
//             w = w (1 - learningRate weightDecay) - stepSize m / (sqrt(v) / rootCorrection2 + epsilon)
//             where stepSize = learningRate / (1 - beta1^t), rootCorrection2 = sqrt(1 - beta2^t); decay only for i < DECAYED
//   momentum: g = gradientSum clip / weightSum;  m = beta1 m + g;  w -= stepSize (g + beta1 m)
//   nesterov: g = gradientSum clip / weightSum;  m += (1 - momentum) (g - m);  u = g + momentum (m - g)
//   matrices: w = w matrixDecayFactor - matrixStepSize o, with what was made of u
//   none changes anything unless status says applied
//
// gradientSum, weights, m, v, u, o: [COUNT], a range of the flat buffers; parts: [2 PARTS], of which the range owns those from
// FIRST_PART on; status: [3]. judge: one workgroup; all others: a workgroup owns 4096
// consecutive elements.

struct Settings {
  inverseWeightSum: f32,
  gradientClip: f32,
  decayFactor: f32,
  stepSize: f32,
  rootCorrection2: f32,
  oneMinusBeta1: f32,
  beta2: f32,
  oneMinusBeta2: f32,
  epsilon: f32,
  momentum: f32,
  matrixDecayFactor: f32,
  matrixStepSize: f32,
}

struct Status {
  norm: f32,
  scale: f32,
  applied: f32,
}

@group(0) @binding(0) var<storage, read> settings: Settings;
@group(0) @binding(1) var<storage, read_write> newStatus: Status;
@group(0) @binding(1) var<storage, read> status: Status;
@group(0) @binding(2) var<storage, read> gradientSum: array<f32>;
@group(0) @binding(3) var<storage, read_write> newParts: array<f32>;
@group(0) @binding(3) var<storage, read> parts: array<f32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> m: array<f32>;
@group(0) @binding(6) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> velocity: array<f32>;
@group(0) @binding(5) var<storage, read_write> u: array<f32>;
@group(0) @binding(2) var<storage, read> o: array<f32>;
@group(0) @binding(3) var<storage, read_write> matrixWeights: array<f32>;

const elementsPerGroup = 4096u;
var<workgroup> lanes: array<f32, 64>;

// By the bits: a compiler may assume that floats are finite.
fn isFinite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

fn groupSum(value: f32, lane: u32) -> f32 {
  lanes[lane] = value;
  workgroupBarrier();
  for (var reach = 32u; reach > 0u; reach = reach / 2u) {
    if (lane < reach) {
      lanes[lane] += lanes[lane + reach];
    }
    workgroupBarrier();
  }
  let total = lanes[0];
  workgroupBarrier();
  return total;
}

@compute @workgroup_size(64)
fn squares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let groupIndex = group.y * GROUPS_X + group.x;
  let start = groupIndex * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  var sum = 0.0;
  var strange = 0.0;
  for (var i = start + lane; i < end; i += 64u) {
    let gradient = gradientSum[i];
    if (!isFinite(gradient)) {
      strange = 1.0;
    }
    let mean = gradient * settings.inverseWeightSum;
    sum += mean * mean;
  }
  let total = groupSum(sum, lane);
  let strangers = groupSum(strange, lane);
  if (lane == 0u && start < COUNT) {
    newParts[FIRST_PART + groupIndex] = total;
    newParts[PARTS + FIRST_PART + groupIndex] = strangers;
  }
}

@compute @workgroup_size(64)
fn judge(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var strange = 0.0;
  for (var part = lane; part < PARTS; part += 64u) {
    sum += parts[part];
    strange += parts[PARTS + part];
  }
  let total = groupSum(sum, lane);
  let strangers = groupSum(strange, lane);
  if (lane == 0u) {
    let norm = sqrt(total);
    var clip = 1.0;
    if (settings.gradientClip > 0.0) {
      clip = min(1.0, settings.gradientClip / (norm + 1e-6));
    }
    newStatus.norm = norm;
    newStatus.scale = clip * settings.inverseWeightSum;
    newStatus.applied = select(0.0, 1.0, strangers == 0.0 && isFinite(total));
  }
}

@compute @workgroup_size(64)
fn adamw(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (status.applied == 0.0) {
    return;
  }
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  for (var i = start + lane; i < end; i += 64u) {
    let gradient = gradientSum[i] * status.scale;
    let first = m[i] + settings.oneMinusBeta1 * (gradient - m[i]);
    let second = settings.beta2 * v[i] + settings.oneMinusBeta2 * gradient * gradient;
    m[i] = first;
    v[i] = second;
    let kept = weights[i] * select(1.0, settings.decayFactor, i < DECAYED);
    weights[i] = kept - settings.stepSize * first / (sqrt(second) / settings.rootCorrection2 + settings.epsilon);
  }
}

@compute @workgroup_size(64)
fn momentum(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (status.applied == 0.0) {
    return;
  }
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  let beta = 1.0 - settings.oneMinusBeta1;
  for (var i = start + lane; i < end; i += 64u) {
    let gradient = gradientSum[i] * status.scale;
    let first = beta * m[i] + gradient;
    m[i] = first;
    weights[i] -= settings.stepSize * (gradient + beta * first);
  }
}

@compute @workgroup_size(64)
fn nesterov(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (status.applied == 0.0) {
    return;
  }
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  for (var i = start + lane; i < end; i += 64u) {
    let gradient = gradientSum[i] * status.scale;
    let first = velocity[i] + (1.0 - settings.momentum) * (gradient - velocity[i]);
    velocity[i] = first;
    u[i] = gradient + settings.momentum * (first - gradient);
  }
}

@compute @workgroup_size(64)
fn matrices(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (status.applied == 0.0) {
    return;
  }
  let start = (group.y * GROUPS_X + group.x) * elementsPerGroup;
  let end = min(start + elementsPerGroup, COUNT);
  for (var i = start + lane; i < end; i += 64u) {
    matrixWeights[i] = matrixWeights[i] * settings.matrixDecayFactor - settings.matrixStepSize * o[i];
  }
}
