// C[m,n] (+)= Σ_k A(m,k)·B(k,n) (+ R[m,n]), every operand row-major with its own row stride (ROW_A, ROW_B, ROW_C).
//   A_BY_COLUMN false: A is [M,K]      true: A is [K,M]      (TN)
//   B_BY_COLUMN false: B is [K,N]      true: B is [N,K]      (NT)
//   a, b: inputs; c: output, or with SPLIT the partial sums [splits,M,N], each over DEPTH_PER_SPLIT values of k;
//   r: residual, laid out as C, only with RESIDUAL.
// One invocation owns 8×8 elements of C, held as four 4×4 matrices, and shares nothing with its neighbours: no
// workgroup memory and no barrier, which is what adapters that run invocations in CPU vector lanes want.
// A workgroup is LANES_M × LANES_N such tiles. At an edge, rows and columns past the end repeat the last one and are
// not stored, so an odd shape costs no second code path.

#if VECTOR_A
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> a: array<f32>;
#endif
#if VECTOR_B
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> b: array<f32>;
#endif
#if VECTOR_C
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
#endif
#if RESIDUAL
#if VECTOR_C
@group(0) @binding(3) var<storage, read> r: array<vec4<f32>>;
#else
@group(0) @binding(3) var<storage, read> r: array<f32>;
#endif
#endif

// Four consecutive elements of a row. The vector forms need every row to start at a multiple of four elements.
fn loadA(row: u32, column: u32, width: u32) -> vec4<f32> {
#if VECTOR_A
  return a[(row * ROW_A + min(column, ROW_A - 4u)) / 4u];
#else
  let start = row * ROW_A;
  let last = width - 1u;
  return vec4<f32>(a[start + min(column, last)], a[start + min(column + 1u, last)],
                   a[start + min(column + 2u, last)], a[start + min(column + 3u, last)]);
#endif
}

fn loadB(row: u32, column: u32, width: u32) -> vec4<f32> {
#if VECTOR_B
  return b[(row * ROW_B + min(column, ROW_B - 4u)) / 4u];
#else
  let start = row * ROW_B;
  let last = width - 1u;
  return vec4<f32>(b[start + min(column, last)], b[start + min(column + 1u, last)],
                   b[start + min(column + 2u, last)], b[start + min(column + 3u, last)]);
#endif
}

// Rows m…m+3 of A over k…k+3: one column of the result for each row.
fn tileA(m: u32, k: u32) -> mat4x4<f32> {
#if A_BY_COLUMN
  let last = K - 1u;
  return transpose(mat4x4<f32>(loadA(min(k, last), m, M), loadA(min(k + 1u, last), m, M),
                               loadA(min(k + 2u, last), m, M), loadA(min(k + 3u, last), m, M)));
#else
  let last = M - 1u;
  return mat4x4<f32>(loadA(min(m, last), k, K), loadA(min(m + 1u, last), k, K),
                     loadA(min(m + 2u, last), k, K), loadA(min(m + 3u, last), k, K));
#endif
}

// Rows k…k+3 of B over n…n+3: one column of the result for each k.
fn tileB(k: u32, n: u32) -> mat4x4<f32> {
#if B_BY_COLUMN
  let last = N - 1u;
  return transpose(mat4x4<f32>(loadB(min(n, last), k, K), loadB(min(n + 1u, last), k, K),
                               loadB(min(n + 2u, last), k, K), loadB(min(n + 3u, last), k, K)));
#else
  let last = K - 1u;
  return mat4x4<f32>(loadB(min(k, last), n, N), loadB(min(k + 1u, last), n, N),
                     loadB(min(k + 2u, last), n, N), loadB(min(k + 3u, last), n, N));
#endif
}

fn keepRows(tile: mat4x4<f32>, live: vec4<bool>) -> mat4x4<f32> {
  let none = vec4<f32>();
  return mat4x4<f32>(select(none, tile[0], live), select(none, tile[1], live),
                     select(none, tile[2], live), select(none, tile[3], live));
}

fn keepColumns(tile: mat4x4<f32>, count: u32) -> mat4x4<f32> {
  let none = vec4<f32>();
  return mat4x4<f32>(tile[0], select(none, tile[1], count > 1u), select(none, tile[2], count > 2u), none);
}

fn store(row: u32, column: u32, split: u32, value: vec4<f32>) {
  if (row >= M || column >= N) { return; }
  let index = (split * M + row) * ROW_C + column;
#if VECTOR_C
  var sum = value;
#if RESIDUAL
  sum += r[index / 4u];
#endif
#if ACCUMULATE
  sum += c[index / 4u];
#endif
  c[index / 4u] = sum;
#else
  for (var i = 0u; i < min(4u, N - column); i++) {
    var sum = value[i];
#if RESIDUAL
    sum += r[index + i];
#endif
#if ACCUMULATE
    sum += c[index + i];
#endif
    c[index + i] = sum;
  }
#endif
}

@compute @workgroup_size(LANES_N, LANES_M)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let n = id.x * 8u;
  let m = id.y * 8u;
  if (n >= N || m >= M) { return; }
  let start = id.z * DEPTH_PER_SPLIT;
  let end = min(start + DEPTH_PER_SPLIT, K);

  var c00 = mat4x4<f32>();
  var c01 = mat4x4<f32>();
  var c10 = mat4x4<f32>();
  var c11 = mat4x4<f32>();
  var k = start;
  for (; k + 4u <= end; k += 4u) {
    let a0 = tileA(m, k);
    let a1 = tileA(m + 4u, k);
    let b0 = tileB(k, n);
    let b1 = tileB(k, n + 4u);
    c00 += b0 * a0;
    c01 += b1 * a0;
    c10 += b0 * a1;
    c11 += b1 * a1;
  }
  if (k < end) {
    // The last one to three values of k: zeros in both factors, so that no stray infinity meets a zero.
    let left = end - k;
    let live = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left);
    let a0 = keepRows(tileA(m, k), live);
    let a1 = keepRows(tileA(m + 4u, k), live);
    let b0 = keepColumns(tileB(k, n), left);
    let b1 = keepColumns(tileB(k, n + 4u), left);
    c00 += b0 * a0;
    c01 += b1 * a0;
    c10 += b0 * a1;
    c11 += b1 * a1;
  }
  store(m, n, id.z, c00[0]);
  store(m, n + 4u, id.z, c01[0]);
  store(m + 1u, n, id.z, c00[1]);
  store(m + 1u, n + 4u, id.z, c01[1]);
  store(m + 2u, n, id.z, c00[2]);
  store(m + 2u, n + 4u, id.z, c01[2]);
  store(m + 3u, n, id.z, c00[3]);
  store(m + 3u, n + 4u, id.z, c01[3]);
  store(m + 4u, n, id.z, c10[0]);
  store(m + 4u, n + 4u, id.z, c11[0]);
  store(m + 5u, n, id.z, c10[1]);
  store(m + 5u, n + 4u, id.z, c11[1]);
  store(m + 6u, n, id.z, c10[2]);
  store(m + 6u, n + 4u, id.z, c11[2]);
  store(m + 7u, n, id.z, c10[3]);
  store(m + 7u, n + 4u, id.z, c11[3]);
}
