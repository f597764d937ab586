/** Entry of the ticker's worker: posts a message every so many milliseconds. See `ticker.ts`. */

addEventListener('message', (event: MessageEvent<number>) => {
  setInterval(() => {
    postMessage(null);
  }, event.data);
});
