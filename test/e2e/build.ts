/** Before any page test: what the tests serve is what the sources say. */
import { buildStale } from '../../tools/build.mjs';

export default async function build(): Promise<void> {
  // What Vite itself runs has this set, the benchmarks among others; pages must be built for production all the same.
  process.env['NODE_ENV'] = 'development';
  await buildStale(['client', 'server', 'cli'], { log: console.log });
}
