// Gradients and changes of weights as fewer bytes, with error feedback, and back: what the codec drops goes along with the next.
// The formats are those of src/codec/bf16.ts, int8.ts and int2.ts.
//
//   encode:       x = source + kept;  encoded = codec(x);  kept = x - decoded(encoded)      gradients; kept is the residual
//     CHANGE:     x = source - kept;  encoded = codec(x);  kept = kept + decoded(encoded)   master weights; kept is the replica
//     ROUNDED:    encoded = codec(kept), dithered;  kept = decoded(encoded)                 sums of gradients
//   add:          sum += decoded(encoded)                                                   as everybody else's replica does
//
// source, kept, sum: [COUNT], a range of the flat buffers, in which blocks FIRST_BLOCK and after it lie. A workgroup owns
// 4096 consecutive elements, an invocation one block of 64. halves: [COUNT / 2] words, two elements each, the first below;
// numbers: [COUNT / 4] words, four elements each; levels: [COUNT / 16] words, sixteen each; exponents: of all ranges, a byte for each block, cleared before, since the
// blocks of one word may lie in two ranges.

#if ROUNDED
@group(0) @binding(0) var<storage, read_write> kept: array<f32>;
@group(0) @binding(1) var<storage, read_write> newHalves: array<u32>;
@group(0) @binding(1) var<storage, read_write> newNumbers: array<u32>;
@group(0) @binding(2) var<storage, read_write> newExponents: array<atomic<u32>>;
#else
@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> kept: array<f32>;
@group(0) @binding(2) var<storage, read_write> newHalves: array<u32>;
@group(0) @binding(2) var<storage, read_write> newNumbers: array<u32>;
@group(0) @binding(2) var<storage, read_write> newLevels: array<u32>;
@group(0) @binding(3) var<storage, read_write> newExponents: array<atomic<u32>>;
#endif
@group(0) @binding(0) var<storage, read_write> sum: array<f32>;
@group(0) @binding(1) var<storage, read> halves: array<u32>;
@group(0) @binding(1) var<storage, read> numbers: array<u32>;
@group(0) @binding(1) var<storage, read> levels: array<u32>;
@group(0) @binding(2) var<storage, read> exponents: array<u32>;

const elementsPerBlock = 64u;
const blocksPerGroup = 64u;
const exponentMask = 0x7f800000u;
// Smaller and larger scales could not be multiplied exactly: see src/codec/int8.ts.
const leastExponent = 8u;
const mostExponent = 247u;
const notFinite = 255u;

fn given(i: u32) -> f32 {
#if ROUNDED
  return kept[i];
#else
#if CHANGE
  return source[i] - kept[i];
#else
  return source[i] + kept[i];
#endif
#endif
}

// A scale is a power of two, so `decoded` is exact, and this sum the same on every device.
fn keep(i: u32, x: f32, decoded: f32) {
#if ROUNDED
  kept[i] = decoded;
#else
#if CHANGE
  kept[i] = kept[i] + decoded;
#else
  kept[i] = x - decoded;
#endif
#endif
}

// "lowbias32", as in dropout.wgsl. Of the value's own bits, the lowest of which are as good as chance.
fn chance(i: u32, x: f32) -> u32 {
  var v = bitcast<u32>(x) ^ (i * 0x9e3779b1u);
  v = (v ^ (v >> 16u)) * 0x7feb352du;
  v = (v ^ (v >> 15u)) * 0x846ca68bu;
  return v ^ (v >> 16u);
}

fn blockOf(group: vec3u, lane: u32) -> u32 {
  return (group.y * GROUPS_X + group.x) * blocksPerGroup + lane;
}

// To nearest, ties to even, or dithered; what is not finite becomes infinite. i: of all ranges.
fn halfOf(i: u32, x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & exponentMask) == exponentMask) {
    return exponentMask >> 16u;
  }
#if ROUNDED
  return (bits + (chance(i, x) >> 16u)) >> 16u;
#else
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
#endif
}

fn numberOf(i: u32, x: f32) -> i32 {
#if ROUNDED
  let dither = (f32(chance(i, x) >> 16u) + 0.5) / 65536.0;
  return clamp(i32(floor(x + dither)), -127, 127);
#else
  return clamp(i32(round(x)), -127, 127);
#endif
}

@compute @workgroup_size(64)
fn encodeBf16(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = blockOf(group, lane) * elementsPerBlock;
  if (start >= COUNT) {
    return;
  }
  for (var i = start; i < start + elementsPerBlock; i += 2u) {
    let first = given(i);
    let second = given(i + 1u);
    let low = halfOf(FIRST_BLOCK * elementsPerBlock + i, first);
    let high = halfOf(FIRST_BLOCK * elementsPerBlock + i + 1u, second);
    newHalves[i / 2u] = low | (high << 16u);
    keep(i, first, bitcast<f32>(low << 16u));
    keep(i + 1u, second, bitcast<f32>(high << 16u));
  }
}

@compute @workgroup_size(64)
fn addBf16(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = blockOf(group, lane) * elementsPerBlock;
  if (start >= COUNT) {
    return;
  }
  for (var i = start; i < start + elementsPerBlock; i += 2u) {
    let word = halves[i / 2u];
    sum[i] += bitcast<f32>(word << 16u);
    sum[i + 1u] += bitcast<f32>(word & 0xffff0000u);
  }
}

// The biased exponent of the smallest power of two by which a magnitude, given by its bits, is at most 127.
fn scaleExponent(magnitude: u32) -> u32 {
  let exponent = magnitude >> 23u;
  if (exponent < 6u + leastExponent - 1u) {
    return 0u;
  }
  let scale = exponent - 6u + select(0u, 1u, (magnitude & 0x7fffffu) > 0x7e0000u);
  if (exponent == 255u || scale > mostExponent) {
    return notFinite;
  }
  return select(0u, scale, scale >= leastExponent);
}

@compute @workgroup_size(64)
fn encodeInt8(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = blockOf(group, lane);
  let start = block * elementsPerBlock;
  if (start >= COUNT) {
    return;
  }
  var largest = 0u;
  for (var i = start; i < start + elementsPerBlock; i++) {
    largest = max(largest, bitcast<u32>(given(i)) & 0x7fffffffu);
  }
  let exponent = scaleExponent(largest);
  let at = FIRST_BLOCK + block;
  atomicOr(&newExponents[at / 4u], exponent << (8u * (at % 4u)));
  let isZero = exponent == 0u || exponent == notFinite;
  let scale = bitcast<f32>(select(exponent << 23u, 0u, isZero));
  // Of a power of two, so exact.
  let inverse = bitcast<f32>(select((254u - exponent) << 23u, 0u, isZero));
  for (var i = start; i < start + elementsPerBlock; i += 4u) {
    var word = 0u;
    for (var j = 0u; j < 4u; j++) {
      let x = given(i + j);
      let number = numberOf(FIRST_BLOCK * elementsPerBlock + i + j, x * inverse);
      word |= (bitcast<u32>(number) & 0xffu) << (8u * j);
      // What is not finite has no number. A sum of gradients must show it to the optimizer.
      if (!(ROUNDED && exponent == notFinite)) {
        keep(i + j, x, f32(number) * scale);
      }
    }
    newNumbers[i / 4u] = word;
  }
}

@compute @workgroup_size(64)
fn addInt8(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = blockOf(group, lane);
  let start = block * elementsPerBlock;
  if (start >= COUNT) {
    return;
  }
  let at = FIRST_BLOCK + block;
  let exponent = (exponents[at / 4u] >> (8u * (at % 4u))) & 0xffu;
  let scale = bitcast<f32>(exponent << 23u);
  for (var i = start; i < start + elementsPerBlock; i += 4u) {
    let word = numbers[i / 4u];
    for (var j = 0u; j < 4u; j++) {
      let number = bitcast<i32>(word << (24u - 8u * j)) >> 24u;
      sum[i + j] += f32(number) * scale;
    }
  }
}

#if !ROUNDED
const candidates = 5u;
const leastTop = 17u;
const fixedBits = 16u;
const droppedErrorBits = 5u;

@compute @workgroup_size(64)
fn encodeInt2(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = blockOf(group, lane);
  let start = block * elementsPerBlock;
  if (start >= COUNT) {
    return;
  }
  var largest = 0u;
  for (var i = start; i < start + elementsPerBlock; i++) {
    largest = max(largest, bitcast<u32>(given(i)) & 0x7fffffffu);
  }
  let top = (largest >> 23u) + 1u;
  let isTooSmall = top < leastTop;
  let isTooLarge = top > mostExponent;
  let at = FIRST_BLOCK + block;
  if (isTooSmall || isTooLarge) {
    atomicOr(&newExponents[at / 4u], select(0u, notFinite, isTooLarge) << (8u * (at % 4u)));
    for (var word = start / 16u; word < start / 16u + 4u; word++) {
      newLevels[word] = 0u;
    }
    return;
  }
  // Of a power of two, so exact.
  let toFixed = bitcast<f32>((254u + fixedBits - top) << 23u);
  var leastErrors = 0xffffffffu;
  var below = 0u;
  for (var candidate = 0u; candidate < candidates; candidate++) {
    let scaleBits = fixedBits - candidate;
    var errors = 0u;
    for (var i = start; i < start + elementsPerBlock; i++) {
      let fixed = u32(abs(given(i)) * toFixed);
      let reached = select(1u, 3u, (fixed >> scaleBits) > 0u) << (scaleBits - 1u);
      let error = (max(fixed, reached) - min(fixed, reached)) >> droppedErrorBits;
      errors += error * error;
    }
    if (errors < leastErrors) {
      leastErrors = errors;
      below = candidate;
    }
  }
  let exponent = top - below;
  atomicOr(&newExponents[at / 4u], exponent << (8u * (at % 4u)));
  let scale = bitcast<f32>(exponent << 23u);
  for (var word = start / 16u; word < start / 16u + 4u; word++) {
    var packed = 0u;
    for (var j = 0u; j < 16u; j++) {
      let i = word * 16u + j;
      let x = given(i);
      let isLarge = abs(x) >= scale;
      let isNegative = x < 0.0;
      packed |= (select(0u, 1u, isLarge) | select(0u, 2u, isNegative)) << (2u * j);
      keep(i, x, scale * select(0.5, 1.5, isLarge) * select(1.0, -1.0, isNegative));
    }
    newLevels[word] = packed;
  }
}
#endif

@compute @workgroup_size(64)
fn addInt2(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = blockOf(group, lane);
  let start = block * elementsPerBlock;
  if (start >= COUNT) {
    return;
  }
  let at = FIRST_BLOCK + block;
  let exponent = (exponents[at / 4u] >> (8u * (at % 4u))) & 0xffu;
  if (exponent == 0u) {
    return;
  }
  let scale = bitcast<f32>(exponent << 23u);
  for (var word = start / 16u; word < start / 16u + 4u; word++) {
    let packed = levels[word];
    for (var j = 0u; j < 16u; j++) {
      let level = packed >> (2u * j);
      sum[word * 16u + j] += scale * select(0.5, 1.5, (level & 1u) != 0u) * select(1.0, -1.0, (level & 2u) != 0u);
    }
  }
}
