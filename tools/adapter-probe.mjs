/**
 * Run in a process of its own (tools/vulkan.mjs), because a broken driver may crash it: opens the adapter that the
 * environment offers, squares eight numbers on it and prints its name as JSON. Exit code 1: no adapter, or wrong numbers.
 */
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);

const count = 8;
/** Kept for the life of the process: Dawn stops working when it is collected. */
const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (adapter === null) process.exit(1);
const device = await adapter.requestDevice();
const values = device.createBuffer({
  size: count * 4,
  usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
});
const copy = device.createBuffer({ size: count * 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
device.queue.writeBuffer(values, 0, Float32Array.from({ length: count }, (_, index) => index));
const module = device.createShaderModule({
  code: `@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@compute @workgroup_size(${count}) fn square(@builtin(global_invocation_id) id: vec3u) { values[id.x] *= values[id.x]; }`,
});
const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'square' } });
const encoder = device.createCommandEncoder();
const pass = encoder.beginComputePass();
pass.setPipeline(pipeline);
pass.setBindGroup(
  0,
  device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: values } }] }),
);
pass.dispatchWorkgroups(1);
pass.end();
encoder.copyBufferToBuffer(values, 0, copy, 0, count * 4);
device.queue.submit([encoder.finish()]);
await copy.mapAsync(GPUMapMode.READ);
const isRight = new Float32Array(copy.getMappedRange()).every((value, index) => value === index * index);
const { description, vendor, architecture } = adapter.info;
const name = description === '' ? `${vendor} ${architecture}` : description;
console.log(JSON.stringify({ name, isSoftware: /swiftshader|llvmpipe|software/i.test(`${name} ${architecture}`) }));
process.exit(isRight ? 0 : 1);
