/**
 * Hostile clients at the doors of an emulated Open vSwitch, one after the other: half of a message, lengths that lie, deep JSON,
 * nothing at all. Each loses its own connection; others go on, and the server's memory stays flat.
 */
import { createConnection, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { RandomStream } from '../../src/engine/random.ts';
import { Ringside } from '../tools/ringside.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const CONNECTIONS = full ? 100_000 : 2_000;
/** At a time. */
const TOGETHER = 16;
const SEED = Number(process.env['RINGSIDE_SEED'] ?? 1);

let server: Ringside;
let targets: readonly { readonly protocol: string; readonly target: string }[];
beforeAll(async () => {
  server = await Ringside.start({ RINGSIDE_WORKERS: '1' });
  const document = { recorder: { events: 65536, bytes: '8MiB' }, hosts: [{ name: 'h1', bridges: [{ name: 'br0' }] }] };
  const made = await server.json<{ endpoints: typeof targets }>('PUT', '/v1/topologies/t1', document);
  targets = made.endpoints;
});
afterAll(async () => {
  await server?.stop();
});

function connect(target: string): Socket {
  const [kind, ...rest] = target.split(':');
  if (kind === 'tcp') return createConnection({ host: rest[0]!, port: Number(rest[1]) });
  return createConnection({ path: kind === 'unix' ? rest.join(':') : target });
}

const random = new RandomStream(SEED, 'hostile clients');
const below = (n: number): number => (n < 2 ? 0 : random.next() % n);
const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => below(256));
const text = (t: string): Uint8Array => new TextEncoder().encode(t);
/** OpenFlow: version, type, length, xid. */
const header = (version: number, type: number, length: number): Uint8Array =>
  Uint8Array.of(version, type, length >> 8, length & 255, 0, 0, 0, 1);

const HOSTILE: readonly (() => Uint8Array)[] = [
  () => new Uint8Array(0),
  () => bytes(1 + below(200)),
  () => text('{"id":0,"method":"transact","params":["Open_vSwitch",{"op":"insert"'),
  () => text('['.repeat(1 + below(5000))),
  () => text(`{"id":0,"method":"${'x'.repeat(below(20_000))}`),
  () => text('{"id":0,"method":"echo","params":[]}}}'),
  () => text('{"id":0,"method":"monitor","params":["Open_vSwitch",null,{"Bridge":{"columns":["nonsense"]}}]}'),
  () => header(4, 0, 8).subarray(0, below(8)),
  () => header(below(256), below(256), below(65536)),
  () => Uint8Array.of(...header(4, 0, 8), ...header(4, 14, 65535), ...bytes(100)),
  () => Uint8Array.of(...header(4, 0, 8), ...header(4, 18, 7)),
  () => Uint8Array.of(...header(6, 0, 8), ...header(6, 33, 24), ...bytes(16)),
];

/** One connection: says something, perhaps hears something, and is gone. */
function hostile(target: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(target);
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
    socket.on('connect', () => {
      socket.write(HOSTILE[below(HOSTILE.length)]!(), () => {
        if (below(2) === 0) socket.destroy();
        else {
          socket.once('data', () => socket.destroy());
          setTimeout(() => socket.destroy(), 5);
        }
      });
    });
  });
}
async function hostiles(n: number): Promise<void> {
  let left = n;
  const one = async (): Promise<void> => {
    while (left-- > 0) await hostile(targets[below(targets.length)]!.target);
  };
  await Promise.all(Array.from({ length: TOGETHER }, one));
}
const residentMiB = async (): Promise<number> => {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]) / 1024 / 1024;
};

test(`${CONNECTIONS} hostile connections: others go on, memory stays flat (seed ${SEED})`, async () => {
  const ovsdb = targets.find(({ protocol }) => protocol === 'ovsdb')!.target;
  const witness = connect(ovsdb);
  let heard = '';
  witness.on('data', (data) => {
    heard += data.toString();
    // the server asks whether it is still there
    if (heard.includes('"method":"echo"')) {
      heard = '';
      witness.write('{"id":"echo","result":[],"error":null}');
    }
  });
  const ask = async (id: number): Promise<void> => {
    heard = '';
    witness.write(`{"id":${id},"method":"list_dbs","params":[]}`);
    await expect.poll(() => heard, { timeout: 10_000 }).toContain(`"id":${id}`);
    expect(heard).toContain('Open_vSwitch');
  };
  await ask(1);
  // V8's young generation grows to what it may be first
  await hostiles(CONNECTIONS / 2);
  const before = await residentMiB();
  await hostiles(CONNECTIONS / 2);
  const after = await residentMiB();
  console.log(`soak: ${CONNECTIONS} hostile connections, resident ${before.toFixed(0)} then ${after.toFixed(0)} MiB`);
  await ask(2);
  witness.destroy();
  const { state } = await server.json<{ state: string }>('GET', '/v1/topologies/t1');
  expect(state).toBe('RUNNING');
  // a kilobyte kept of each would be 50 MiB in the full count
  expect(after - before).toBeLessThan(48);
}, 3_600_000);
