/** Entry of an engine worker thread: an EngineService between two message ports. */
import { parentPort } from 'node:worker_threads';
import { HostStreams } from '../attach/host-network.ts';
import { NEVER } from '../engine/timeline.ts';
import { collectGarbage } from './collect-garbage.ts';
import { EngineService } from './engine-service.ts';
import type { EngineCall, EngineMessage } from './protocol.ts';

const port = parentPort;
if (port === null) throw new Error('this file is the entry of a worker thread');

const service = new EngineService((message: EngineMessage) => port.postMessage(message), {
  network: (folder, address) => (topology, host, onTick) => new HostStreams(folder, address, topology, host, onTick),
  wake,
});
let timer: NodeJS.Timeout | null = null;
let immediate: NodeJS.Immediate | null = null;

function loop(): void {
  immediate = null;
  timer = null;
  const wait = service.turn();
  if (wait === 0) immediate = setImmediate(loop);
  else if (wait !== NEVER) timer = setTimeout(loop, wait);
}

function wake(): void {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  if (immediate === null) immediate = setImmediate(loop);
}

port.on('message', (call: EngineCall) => {
  service.call(call);
  if (call.request.op === 'delete') setImmediate(collectGarbage);
  wake();
});
