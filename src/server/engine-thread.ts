/**
 * One engine worker thread as the API sees it: calls go out with an id, each gets one answer, notices come unasked.
 * When the thread ends by itself, every open call is refused and the owner is told why.
 */
import { Worker } from 'node:worker_threads';
import type { EngineAnswers, EngineCall, EngineError, EngineMessage, EngineRequest } from '../lab/protocol.ts';

/** An engine's refusal, or the engine's end, as an exception. */
export class EngineFault extends Error {
  readonly code: EngineError['code'] | 'ENGINE_GONE';
  /** JSON Pointer into the request. */
  readonly field: string | undefined;
  constructor(code: EngineError['code'] | 'ENGINE_GONE', message: string, field?: string) {
    super(message);
    this.code = code;
    this.field = field;
  }
}

export type Notice = Exclude<EngineMessage, { type: 'answer' }>;

/** An engine takes calls between slices of milliseconds; one that is silent for so long will not speak again. */
const SILENCE_MS = 60_000;
/** Answered when their work is done, which may take long for good reason. */
const LONG_CALLS: ReadonlySet<EngineRequest['op']> = new Set(['create', 'clock', 'rehearse']);

interface OpenCall {
  readonly resolve: (value: unknown) => void;
  readonly reject: (fault: EngineFault) => void;
  readonly watch: NodeJS.Timeout | undefined;
}

export class EngineThread {
  private readonly worker: Worker;
  private readonly silenceMs: number;
  private readonly open = new Map<number, OpenCall>();
  private nextId = 1;
  private ended: string | null = null;
  private stopping = false;
  private lastError: string | null = null;

  constructor(entry: URL, onNotice: (notice: Notice) => void, onEnd: (reason: string) => void, silenceMs = SILENCE_MS) {
    this.silenceMs = silenceMs;
    this.worker = new Worker(entry);
    this.worker.on('message', (message: EngineMessage) => {
      if (message.type === 'answer') this.answer(message);
      else onNotice(message);
    });
    this.worker.on('error', (error: unknown) => {
      this.lastError = error instanceof Error ? error.message : String(error);
    });
    this.worker.on('exit', (code) => {
      const cause = this.lastError ?? `exit code ${code}`;
      this.ended = `the engine thread ended: ${cause}`;
      for (const call of this.open.values()) {
        clearTimeout(call.watch);
        call.reject(new EngineFault('ENGINE_GONE', this.ended));
      }
      this.open.clear();
      if (!this.stopping) onEnd(this.ended);
    });
  }

  get alive(): boolean {
    return this.ended === null && !this.stopping;
  }

  call<R extends EngineRequest>(request: R, transfer: ArrayBuffer[] = []): Promise<EngineAnswers[R['op']]> {
    if (this.ended !== null) return Promise.reject(new EngineFault('ENGINE_GONE', this.ended));
    const id = this.nextId++;
    const call: EngineCall = { id, request };
    return new Promise<unknown>((resolve, reject) => {
      const watch = LONG_CALLS.has(request.op) ? undefined : setTimeout(() => this.giveUp(), this.silenceMs);
      this.open.set(id, { resolve, reject, watch });
      this.worker.postMessage(call, transfer);
      // The protocol's answer table says what an operation's answer is; there is no other sender on this channel.
    }) as Promise<EngineAnswers[R['op']]>;
  }

  /** Ends the thread as a crash would: its worlds are lost. */
  kill(): Promise<number> {
    return this.worker.terminate();
  }

  /** Ends the thread without reporting it. */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.worker.terminate();
  }

  /** A thread that hangs would hold up every request for its worlds. */
  private giveUp(): void {
    this.lastError = `it did not answer for ${this.silenceMs / 1000} s`;
    void this.worker.terminate();
  }

  private answer(message: Extract<EngineMessage, { type: 'answer' }>): void {
    const call = this.open.get(message.id);
    if (call === undefined) return;
    this.open.delete(message.id);
    clearTimeout(call.watch);
    if (message.ok) call.resolve(message.value);
    else call.reject(new EngineFault(message.error.code, message.error.message, message.error.field));
  }
}
