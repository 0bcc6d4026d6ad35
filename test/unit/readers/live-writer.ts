/** Worker thread: the engine's own recorder at full speed, until it is told to stop. Frames carry their id as their bytes. */
import { parentPort, workerData } from 'node:worker_threads';
import type { WorldLayout } from '../../../src/engine/catalog.ts';
import * as E from '../../../src/engine/events.ts';
import { Recorder } from '../../../src/engine/recorder.ts';
import { compileWorldCode } from '../../../src/engine/wasm.ts';

const { memory, layout, ordinals, source, stop, burst, rest } = workerData as {
  memory: WebAssembly.Memory;
  layout: WorldLayout;
  ordinals: number;
  source: number;
  stop: Int32Array;
  burst: number;
  rest: number;
};
const recorder = new Recorder(memory.buffer as SharedArrayBuffer, layout, compileWorldCode(memory), ordinals);
const view = new DataView(memory.buffer);
const at = (kind: number, place: number, context: number): number => E.metaOf(kind, place, context);
let time = 0;
let slices = 0;
while (Atomics.load(stop, 0) === 0) {
  // One slice: it is published only when it is over, as the scheduler does.
  for (let i = 0; i < burst; i++) {
    recorder.frames++;
    const frame = recorder.frames;
    const length = 60 + (frame % 1440);
    for (let p = 0; p < length; p += 4) view.setUint32(source + p, frame, true);
    recorder.stamp[0] = time++;
    recorder.event(at(E.PACKET_BORN, 1, 0), frame, length, 0);
    recorder.event(at(E.PACKET_BYTES, 1, 0), frame, recorder.bytes(source, length), length);
    recorder.event(at(E.GUEST_XMIT, 1, 0), frame, length, 0);
    recorder.stamp[0] = time++;
    recorder.event(at(E.DP_INGRESS, 8, 1), frame, length, 0);
    recorder.event(at(E.WIRE_DELIVER, 12, 1), frame, length, 0);
  }
  if (recorder.due) recorder.publish(time);
  if (++slices % rest === 0) Atomics.wait(stop, 0, 0, 1);
}
recorder.publish(time);
parentPort!.postMessage({ events: recorder.events, frames: recorder.frames });
