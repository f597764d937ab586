// Weighted softmax cross-entropy of rows of logits, and its gradient in place of the logits.
//   losses[i] = w[i] · (log Σ_j exp(l[i,j]) − l[i,t[i]])
//   with GRADIENT: l[i,j] ← w[i] · (exp(l[i,j]) / Σ_j exp(l[i,j]) − [j = t[i]])
// With SMOOTHED the target is a distribution, ε = SMOOTHING_F spread evenly over all V tokens and 1 − ε on t (Szegedy et al., 2016):
//   losses[i] = w[i] · (log Σ_j exp(l[i,j]) − (1 − ε) l[i,t[i]] − ε/V Σ_j l[i,j])
//   with GRADIENT: l[i,j] ← w[i] · (exp(l[i,j]) / Σ_j exp(l[i,j]) − (1 − ε) [j = t[i]] − ε/V)
//   logits l: [ROWS,ROW] of which the first VOCABULARY of each row count; targets t, lossWeights w, losses: [ROWS].
// A row of weight zero gives exactly zero loss and gradient, whatever its target. The maximum of the row is subtracted
// before exp, so large logits don't overflow.
// rowsByInvocation: each invocation owns a row (software adapters). rowsByWorkgroup: each workgroup owns a row.
// sumLosses: one workgroup; total[0] (+)= Σ losses, lanes striding the rows, then a tree: the order is fixed.

const lowest = -3.4028234e38;

#if SUMMING
@group(0) @binding(0) var<storage, read> losses: array<f32>;
@group(0) @binding(1) var<storage, read_write> total: array<f32>;
#else
@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> lossWeights: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
#endif

var<workgroup> lanes: array<f32, LANES>;

// Every lane gets the sum over all lanes.
fn sumOfLanes(lane: u32, value: f32) -> f32 {
  lanes[lane] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { lanes[lane] += lanes[lane + half]; }
    workgroupBarrier();
  }
  let sum = lanes[0];
  workgroupBarrier();
  return sum;
}

#if !SUMMING
#if SMOOTHED
const onTarget = 1.0 - SMOOTHING_F;
const onEach = SMOOTHING_F / f32(VOCABULARY);
#else
const onTarget = 1.0;
#endif
#endif

#if SUMMING

@compute @workgroup_size(LANES)
fn sumLosses(@builtin(local_invocation_index) lane: u32) {
  var part = 0.0;
  for (var row = lane; row < ROWS; row += LANES) {
    part += losses[row];
  }
  let sum = sumOfLanes(lane, part);
  if (lane == 0u) {
#if ACCUMULATE
    total[0] += sum;
#else
    total[0] = sum;
#endif
  }
}

#else

@compute @workgroup_size(LANES)
fn rowsByInvocation(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                    @builtin(local_invocation_index) lane: u32) {
  let row = (group.y * groups.x + group.x) * LANES + lane;
  if (row >= ROWS) { return; }
  // Bounds that are no constants: lavapipe unrolls loops over a short vocabulary and compiles them for 20 s.
  let start = row * ROW;
  let end = start + VOCABULARY;
  let weight = lossWeights[row];
  let goal = start + min(targets[row], VOCABULARY - 1u);
  if (weight == 0.0) {
    losses[row] = 0.0;
#if GRADIENT
    for (var j = start; j < end; j++) { logits[j] = 0.0; }
#endif
    return;
  }
  var largest = lowest;
  for (var j = start; j < end; j++) {
    largest = max(largest, logits[j]);
  }
  let goalLogit = logits[goal];
  var sum = 0.0;
#if SMOOTHED
  var gaps = 0.0;
#endif
  for (var j = start; j < end; j++) {
    let share = exp(logits[j] - largest);
    sum += share;
#if SMOOTHED
    gaps += largest - logits[j];
#endif
#if GRADIENT
    logits[j] = share;
#endif
  }
  var loss = log(sum) + onTarget * (largest - goalLogit);
#if SMOOTHED
  loss += onEach * gaps;
#endif
  losses[row] = weight * loss;
#if GRADIENT
  let scale = weight / sum;
  for (var j = start; j < end; j++) {
#if SMOOTHED
    logits[j] = scale * logits[j] - weight * onEach;
#else
    logits[j] *= scale;
#endif
  }
  logits[goal] -= weight * onTarget;
#endif
}

// Every lane gets the largest value of all lanes.
fn largestOfLanes(lane: u32, value: f32) -> f32 {
  lanes[lane] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (lane < half) { lanes[lane] = max(lanes[lane], lanes[lane + half]); }
    workgroupBarrier();
  }
  let largest = lanes[0];
  workgroupBarrier();
  return largest;
}

@compute @workgroup_size(LANES)
fn rowsByWorkgroup(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= ROWS) { return; }
  let start = row * ROW;
  let weight = lossWeights[row];
  let goal = min(targets[row], VOCABULARY - 1u);
  var largest = lowest;
  for (var j = lane; j < VOCABULARY; j += LANES) {
    largest = max(largest, logits[start + j]);
  }
  largest = largestOfLanes(lane, largest);
  var part = 0.0;
  for (var j = lane; j < VOCABULARY; j += LANES) {
    part += exp(logits[start + j] - largest);
  }
  let sum = sumOfLanes(lane, part);
#if SMOOTHED
  var gap = 0.0;
  for (var j = lane; j < VOCABULARY; j += LANES) {
    gap += largest - logits[start + j];
  }
  let gaps = sumOfLanes(lane, gap);
#endif
  if (lane == 0u) {
    var loss = log(sum) + onTarget * (largest - logits[start + goal]);
#if SMOOTHED
    loss += onEach * gaps;
#endif
    losses[row] = select(weight * loss, 0.0, weight == 0.0);
  }
#if GRADIENT
  // The loss above reads a logit that another lane is about to overwrite.
  storageBarrier();
  workgroupBarrier();
  for (var j = lane; j < VOCABULARY; j += LANES) {
    let share = exp(logits[start + j] - largest) / sum;
#if SMOOTHED
    let slope = weight * (share - onTarget * f32(j == goal) - onEach);
#else
    let slope = weight * (share - f32(j == goal));
#endif
    logits[start + j] = select(slope, 0.0, weight == 0.0);
  }
#endif
}

#endif
