// Root-mean-square normalization of rows, forward and backward.
//
//   forward:         scale[n] = 1 / sqrt(mean_d x[n,d]^2 + EPSILON),  y[n,d] = x[n,d] scale[n] w[d]
//   inputGradient:   dx[n,d] = scale[n] w[d] dy[n,d] - x[n,d] scale[n]^3 / WIDTH * sum_e w[e] x[n,e] dy[n,e]
//                    (+ sum[n,d] with ADDS_SUM: what flows back to x on other ways)
//   weightGradient:  parts[p,d] = sum over the rows n of part p of dy[n,d] x[n,d] scale[n]
//   sumParts:        dw[d] = sum_p parts[p,d], in the order of p      (+= with ACCUMULATE)
//
// x, dx, sum: [ROWS, WIDTH] of X_TYPE; y, dy: [ROWS, WIDTH] of Y_TYPE; w, dw: [WIDTH]; scale: [ROWS]; parts: [PARTS, WIDTH].
// forward and inputGradient: LANES invocations share a row, a workgroup owns 64 / LANES rows.
// weightGradient: a workgroup owns COLUMNS columns of 64 / COLUMNS parts. sumParts: a workgroup owns 64 columns.

@group(0) @binding(0) var<storage, read> x: array<X_TYPE>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Y_TYPE>;
@group(0) @binding(3) var<storage, read_write> newScale: array<f32>;
@group(0) @binding(2) var<storage, read> scale: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<Y_TYPE>;
@group(0) @binding(4) var<storage, read_write> dx: array<X_TYPE>;
#if ADDS_SUM
@group(0) @binding(5) var<storage, read> sum: array<X_TYPE>;
#endif
@group(0) @binding(4) var<storage, read_write> newParts: array<f32>;
@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> dw: array<f32>;

#if COOPERATIVE
var<workgroup> lanes: array<f32, 64>;
#endif

// Sum over the invocations that share a row.
fn rowSum(value: f32, index: u32) -> f32 {
#if COOPERATIVE
  lanes[index] = value;
  workgroupBarrier();
  for (var reach = LANES / 2u; reach > 0u; reach = reach / 2u) {
    if (index % LANES < reach) {
      lanes[index] += lanes[index + reach];
    }
    workgroupBarrier();
  }
  let total = lanes[index - index % LANES];
  workgroupBarrier();
  return total;
#else
  return value;
#endif
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let row = (group.y * GROUPS_X + group.x) * (64u / LANES) + index / LANES;
  let start = row * WIDTH;
  // Rows past the end have no columns, so that every invocation reaches the barriers.
  let width = select(0u, WIDTH, row < ROWS);
  var squares = 0.0;
  for (var d = index % LANES; d < width; d += LANES) {
    let value = f32(x[start + d]);
    squares += value * value;
  }
  let factor = inverseSqrt(rowSum(squares, index) / f32(WIDTH) + EPSILON_F);
  for (var d = index % LANES; d < width; d += LANES) {
    y[start + d] = Y_TYPE(f32(x[start + d]) * factor * w[d]);
  }
  if (index % LANES == 0u && row < ROWS) {
    newScale[row] = factor;
  }
}

@compute @workgroup_size(64)
fn inputGradient(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let row = (group.y * GROUPS_X + group.x) * (64u / LANES) + index / LANES;
  let start = row * WIDTH;
  let width = select(0u, WIDTH, row < ROWS);
  var products = 0.0;
  for (var d = index % LANES; d < width; d += LANES) {
    products += w[d] * f32(x[start + d]) * f32(dy[start + d]);
  }
  let total = rowSum(products, index);
  let factor = scale[min(row, ROWS - 1u)];
  let pull = factor * factor * factor * total / f32(WIDTH);
  for (var d = index % LANES; d < width; d += LANES) {
    let own = factor * w[d] * f32(dy[start + d]) - f32(x[start + d]) * pull;
#if ADDS_SUM
    dx[start + d] = X_TYPE(f32(sum[start + d]) + own);
#else
    dx[start + d] = X_TYPE(own);
#endif
  }
}

@compute @workgroup_size(64)
fn weightGradient(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let d = group.x * COLUMNS + index % COLUMNS;
  let part = group.y * (64u / COLUMNS) + index / COLUMNS;
  if (d >= WIDTH || part >= PARTS) {
    return;
  }
  let first = part * ROWS_PER_PART;
  let end = min(first + ROWS_PER_PART, ROWS);
  var total = 0.0;
  for (var row = first; row < end; row++) {
    total += f32(dy[row * WIDTH + d]) * f32(x[row * WIDTH + d]) * scale[row];
  }
  newParts[part * WIDTH + d] = total;
}

@compute @workgroup_size(64)
fn sumParts(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let d = group.x * 64u + index;
  if (d >= WIDTH) {
    return;
  }
  var total = 0.0;
  for (var part = 0u; part < PARTS; part++) {
    total += parts[part * WIDTH + d];
  }
#if ACCUMULATE
  dw[d] = dw[d] + total;
#else
  dw[d] = total;
#endif
}
