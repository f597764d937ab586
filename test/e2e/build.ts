/** Before any page test: what the tests serve is what the sources say. */
import { buildStale } from '../../tools/build.mjs';

export default async function build(): Promise<void> {
  await buildStale(['client', 'server', 'cli'], { log: console.log });
}
