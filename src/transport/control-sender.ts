/** Sends control frames in order over their channel, and keeps what it has no room for, up to a limit. What they say is `framing.ts`'s. */
import { highWaterBytes, lowWaterBytes, stuckTimeoutMs, type ByteChannel } from './blob-sender.ts';

export interface ControlSenderOptions {
  readonly channel: ByteChannel;
  /** Sends a frame over the channel, or ends the link with the error that it then throws. */
  readonly send: (frame: Uint8Array<ArrayBuffer>) => void;
  /** More waits than any peer worth keeping lets wait. */
  readonly tooMuch: () => void;
  /** The channel took nothing for `stuckTimeoutMs`, while something waited for it. */
  readonly stuck: () => void;
}

const maxQueuedBytes = 32 * 1024 * 1024;

export class ControlSender {
  readonly #options: ControlSenderOptions;
  #queue: Uint8Array<ArrayBuffer>[] = [];
  #queuedBytes = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #endedWith: Error | null = null;

  constructor(options: ControlSenderOptions) {
    this.#options = options;
    options.channel.bufferedAmountLowThreshold = lowWaterBytes;
    options.channel.addEventListener('bufferedamountlow', () => this.#pump());
  }

  enqueue(frames: readonly Uint8Array<ArrayBuffer>[]): void {
    if (this.#endedWith !== null) return;
    for (const frame of frames) {
      this.#queue.push(frame);
      this.#queuedBytes += frame.byteLength;
    }
    if (this.#queuedBytes > maxQueuedBytes) this.#options.tooMuch();
    else this.#pump();
  }

  end(error: Error): void {
    this.#endedWith = error;
    this.#queue = [];
    clearTimeout(this.#timer);
  }

  #pump(): void {
    const { channel, send } = this.#options;
    try {
      while (channel.bufferedAmount <= highWaterBytes) {
        const frame = this.#queue.shift();
        if (frame === undefined) break;
        this.#queuedBytes -= frame.byteLength;
        send(frame);
      }
    } catch (error) {
      if (error !== this.#endedWith) throw error;
      return;
    }
    clearTimeout(this.#timer);
    if (this.#queue.length > 0) this.#watch(channel.bufferedAmount);
  }

  #watch(before: number): void {
    this.#timer = setTimeout(() => {
      const now = this.#options.channel.bufferedAmount;
      if (now < before) this.#watch(now);
      else this.#options.stuck();
    }, stuckTimeoutMs);
  }
}
