/** A GPU of which every device is asked for through a function of ours: to watch it, or to take something from it. */

type RequestDevice = (descriptor?: GPUDeviceDescriptor) => Promise<GPUDevice>;

/** `open` gets what was asked for and what really opens a device. */
function wrappedGpu(gpu: GPU, open: (descriptor: GPUDeviceDescriptor, request: RequestDevice) => Promise<GPUDevice>): GPU {
  return Object.assign(Object.create(gpu) as GPU, {
    async requestAdapter(options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
      const adapter = await gpu.requestAdapter(options);
      if (adapter === null) return null;
      const request = adapter.requestDevice.bind(adapter);
      return Object.assign(adapter, { requestDevice: (descriptor: GPUDeviceDescriptor = {}) => open(descriptor, request) });
    },
  });
}

/** Tells of every device that is opened. */
export function watchedGpu(gpu: GPU, onDevice: (device: GPUDevice) => void): GPU {
  return wrappedGpu(gpu, async (descriptor, request) => {
    const device = await request(descriptor);
    onDevice(device);
    return device;
  });
}

/** The same GPU, whose devices are given none of these. */
export function withoutFeatures(gpu: GPU, features: readonly string[]): GPU {
  return wrappedGpu(gpu, (descriptor, request) => {
    const requiredFeatures = [...(descriptor.requiredFeatures ?? [])].filter((feature) => !features.includes(feature));
    return request({ ...descriptor, requiredFeatures });
  });
}
