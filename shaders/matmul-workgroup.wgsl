// C[m,n] (+)= Σ_k A(m,k)·B(k,n) (+ R[m,n]): the same product, operands and flags as matmul-register.wgsl, for GPUs.
// VECTOR_A, VECTOR_B, VECTOR_C: rows of that operand are whole quads (c and r: also N is a multiple of four).
//
// One workgroup owns TILE_M×TILE_N elements of C and walks K in steps of TILE_K: its invocations copy that part of A and B
// into workgroup memory, then each multiplies out the THREAD_M×THREAD_N elements that it owns, as one to four blocks of
// 4×4 (TWO_BLOCKS_M, TWO_BLOCKS_N: of 8 along that side). Elements past an edge are zero and are not stored.
//
// In workgroup memory a tile is made of 4×4 blocks, each of four quads as they lie in the buffer: along k, or along m or n.
// So copying is one vec4 store for one vec4 load in every form, and what lies along k is turned in registers, which costs
// nothing. Quads are grouped by their number in the block, then k, then the block along the side; with one block of padding
// for each k, eight neighbouring lanes touch eight different bank quads (32 banks of four bytes) when they read, and when they
// write, in either direction.

struct Size {
  m: u32, n: u32, k: u32,
  // Elements from one row to the next.
  rowA: u32, rowB: u32, rowC: u32,
  depthPerSplit: u32,
}

#if VECTOR_A
@group(0) @binding(0) var<storage, read> a: array<vec4<A_TYPE>>;
#else
@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
#endif
#if VECTOR_B
@group(0) @binding(1) var<storage, read> b: array<vec4<B_TYPE>>;
#else
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
#endif
#if VECTOR_C
@group(0) @binding(2) var<storage, read_write> c: array<vec4<C_TYPE>>;
#if RESIDUAL
@group(0) @binding(3) var<storage, read> r: array<vec4<C_TYPE>>;
#endif
#else
@group(0) @binding(2) var<storage, read_write> c: array<C_TYPE>;
#if RESIDUAL
@group(0) @binding(3) var<storage, read> r: array<C_TYPE>;
#endif
#endif
#if RESIDUAL
@group(0) @binding(4) var<uniform> size: Size;
#else
@group(0) @binding(3) var<uniform> size: Size;
#endif

const ramp = vec4<u32>(0u, 1u, 2u, 3u);
const blocksM = TILE_M / 4u;
const blocksN = TILE_N / 4u;
const blocksK = TILE_K / 4u;
const pitchA = blocksM + 1u;
const pitchB = blocksN + 1u;
const threadsN = TILE_N / THREAD_N;
const invocations = TILE_M / THREAD_M * threadsN;
// Quads that each invocation copies.
const loadsA = TILE_M * blocksK / invocations;
const loadsB = TILE_N * blocksK / invocations;

// [quad of the block][block along k × pitch + block along the side].
var<workgroup> tileA: array<array<vec4<f32>, blocksK * pitchA>, 4>;
var<workgroup> tileB: array<array<vec4<f32>, blocksK * pitchB>, 4>;

// Four neighbours in a row of A or B as it is stored, zero past the end of rows and columns. Without a branch, so that all
// loads of an invocation are under way before it waits for the first.
fn quadOfA(row: u32, column: u32, rows: u32, columns: u32) -> vec4<f32> {
  let first = min(column, (columns - 1u) / 4u * 4u);
  let at = min(row, rows - 1u) * size.rowA + first;
#if VECTOR_A
  let quad = vec4<f32>(a[at / 4u]);
#else
  let last = columns - 1u - first;
  let quad = vec4<f32>(vec4<A_TYPE>(a[at], a[at + min(1u, last)], a[at + min(2u, last)], a[at + min(3u, last)]));
#endif
  return select(vec4<f32>(), quad, vec4<bool>(row < rows) & (column + ramp < vec4<u32>(columns)));
}

fn quadOfB(row: u32, column: u32, rows: u32, columns: u32) -> vec4<f32> {
  let first = min(column, (columns - 1u) / 4u * 4u);
  let at = min(row, rows - 1u) * size.rowB + first;
#if VECTOR_B
  let quad = vec4<f32>(b[at / 4u]);
#else
  let last = columns - 1u - first;
  let quad = vec4<f32>(vec4<B_TYPE>(b[at], b[at + min(1u, last)], b[at + min(2u, last)], b[at + min(3u, last)]));
#endif
  return select(vec4<f32>(), quad, vec4<bool>(row < rows) & (column + ramp < vec4<u32>(columns)));
}

// A block of A, a column for each m; a block of B, a column for each k.
fn blockOfA(at: u32) -> mat4x4<f32> {
  let quads = mat4x4<f32>(tileA[0][at], tileA[1][at], tileA[2][at], tileA[3][at]);
#if A_BY_COLUMN
  return transpose(quads);
#else
  return quads;
#endif
}

fn blockOfB(at: u32) -> mat4x4<f32> {
  let quads = mat4x4<f32>(tileB[0][at], tileB[1][at], tileB[2][at], tileB[3][at]);
#if B_BY_COLUMN
  return transpose(quads);
#else
  return quads;
#endif
}

fn rowProduct(sum: vec4<f32>, x: vec4<f32>, y: mat4x4<f32>) -> vec4<f32> {
  return fma(vec4<f32>(x.w), y[3], fma(vec4<f32>(x.z), y[2], fma(vec4<f32>(x.y), y[1], fma(vec4<f32>(x.x), y[0], sum))));
}

// Blocks of C have a column for each m. Not the product of matrices, which adds to the sum only after adding for itself.
fn plusProduct(sum: mat4x4<f32>, x: mat4x4<f32>, y: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    rowProduct(sum[0], x[0], y), rowProduct(sum[1], x[1], y), rowProduct(sum[2], x[2], y), rowProduct(sum[3], x[3], y));
}

fn storeQuad(row: u32, column: u32, split: u32, value: vec4<f32>) {
  let at = (split * size.m + row) * size.rowC + column;
#if VECTOR_C
  var sum = value;
#if RESIDUAL
  sum += vec4<f32>(r[at / 4u]);
#endif
#if ACCUMULATE
  sum += vec4<f32>(c[at / 4u]);
#endif
  c[at / 4u] = vec4<C_TYPE>(sum);
#else
  var rest = value;
  for (var i = at; i < at + min(4u, size.n - column); i++) {
    var sum = rest.x;
#if RESIDUAL
    sum += f32(r[i]);
#endif
#if ACCUMULATE
    sum += f32(c[i]);
#endif
    c[i] = C_TYPE(sum);
    rest = vec4<f32>(rest.yzw, 0.0);
  }
#endif
}

fn storeBlock(row: u32, column: u32, split: u32, block: mat4x4<f32>) {
  if (column >= size.n) { return; }
  var rest = block;
  for (var i = row; i < min(row + 4u, size.m); i++) {
    storeQuad(i, column, split, rest[0]);
    rest = mat4x4<f32>(rest[1], rest[2], rest[3], vec4<f32>());
  }
}

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let m = group.y * TILE_M;
  let n = group.x * TILE_N;
  let start = group.z * size.depthPerSplit;
  let end = min(start + size.depthPerSplit, size.k);

  // Thirty-two neighbouring lanes own a part of the tile that is eight invocations wide and four high: so they read few
  // different quads, and store whole rows of 128 bytes. An invocation's second block lies eight (or four) blocks on.
  let patch32 = lane / 32u;
  let blockN = patch32 % (threadsN / 8u) * (2u * THREAD_N) + lane % 8u;
  let blockM = patch32 / (threadsN / 8u) * THREAD_M + lane / 8u % 4u;
  let row = m + blockM * 4u;
  let column = n + blockN * 4u;
  let isInside = row < size.m && column < size.n;

  var upperLeft = mat4x4<f32>();
#if TWO_BLOCKS_N
  var upperRight = mat4x4<f32>();
#endif
#if TWO_BLOCKS_M
  var lowerLeft = mat4x4<f32>();
#if TWO_BLOCKS_N
  var lowerRight = mat4x4<f32>();
#endif
#endif
  for (var k = start; k < end; k += TILE_K) {
    var quadsA: array<vec4<f32>, loadsA>;
    var quadsB: array<vec4<f32>, loadsB>;
    for (var load = 0u; load < loadsA; load++) {
      let i = lane + load * invocations;
#if A_BY_COLUMN
      quadsA[load] = quadOfA(k + i / blocksM, m + i % blocksM * 4u, end, size.m);
#else
      quadsA[load] = quadOfA(m + i / blocksK, k + i % blocksK * 4u, size.m, end);
#endif
    }
    for (var load = 0u; load < loadsB; load++) {
      let i = lane + load * invocations;
#if B_BY_COLUMN
      quadsB[load] = quadOfB(n + i / blocksK, k + i % blocksK * 4u, size.n, end);
#else
      quadsB[load] = quadOfB(k + i / blocksN, n + i % blocksN * 4u, end, size.n);
#endif
    }
    for (var load = 0u; load < loadsA; load++) {
      let i = lane + load * invocations;
#if A_BY_COLUMN
      tileA[i / blocksM % 4u][i / blocksM / 4u * pitchA + i % blocksM] = quadsA[load];
#else
      tileA[i / blocksK % 4u][i % blocksK * pitchA + i / blocksK / 4u] = quadsA[load];
#endif
    }
    for (var load = 0u; load < loadsB; load++) {
      let i = lane + load * invocations;
#if B_BY_COLUMN
      tileB[i / blocksK % 4u][i % blocksK * pitchB + i / blocksK / 4u] = quadsB[load];
#else
      tileB[i / blocksN % 4u][i / blocksN / 4u * pitchB + i % blocksN] = quadsB[load];
#endif
    }
    workgroupBarrier();
    // Lanes past an edge only help to copy: where that is all of a subgroup, the edge costs it nothing.
    let steps = select(0u, (min(TILE_K, end - k) + 3u) / 4u, isInside);
    for (var step = 0u; step < steps; step++) {
      let atA = step * pitchA + blockM;
      let atB = step * pitchB + blockN;
      let left = blockOfB(atB);
#if TWO_BLOCKS_N
      let right = blockOfB(atB + 8u);
#endif
      let upper = blockOfA(atA);
      upperLeft = plusProduct(upperLeft, upper, left);
#if TWO_BLOCKS_N
      upperRight = plusProduct(upperRight, upper, right);
#endif
#if TWO_BLOCKS_M
      let lower = blockOfA(atA + 4u);
      lowerLeft = plusProduct(lowerLeft, lower, left);
#if TWO_BLOCKS_N
      lowerRight = plusProduct(lowerRight, lower, right);
#endif
#endif
    }
    workgroupBarrier();
  }

  storeBlock(row, column, group.z, upperLeft);
#if TWO_BLOCKS_N
  storeBlock(row, column + 32u, group.z, upperRight);
#endif
#if TWO_BLOCKS_M
  storeBlock(row + 16u, column, group.z, lowerLeft);
#if TWO_BLOCKS_N
  storeBlock(row + 16u, column + 32u, group.z, lowerRight);
#endif
#endif
}
